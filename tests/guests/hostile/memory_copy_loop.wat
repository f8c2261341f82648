;; Copies half a gibibyte over itself, again and again. One such instruction cannot be interrupted.
;; limits: memory = "512MiB"
;; outcome: deadline "`call-deadline`"
(func $attack
  (call $have (i32.const 0x1f000000))
  (loop $again
    (memory.copy (i32.const 1) (i32.const 0) (i32.const 0x1effffff))
    (br $again)))
