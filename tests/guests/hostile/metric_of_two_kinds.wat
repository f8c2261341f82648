;; Reports a counter and a gauge under one name.
;; outcome: trap "is a Counter and is used as a Gauge"
(data (i32.const 1024) "both")
(func $attack
  (call $counter-add (i32.const 1024) (i32.const 4) (i64.const 1))
  (call $gauge-set (i32.const 1024) (i32.const 4) (f64.const 1)))
