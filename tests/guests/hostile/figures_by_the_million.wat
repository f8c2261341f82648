;; Reports more figures than a batch may.
;; outcome: limit "a batch may report"
;; limits: call-deadline = "2s"
(data (i32.const 1024) "level")
(func $attack
  (loop $again
    (call $gauge-set (i32.const 1024) (i32.const 5) (f64.const 1))
    (br $again)))
