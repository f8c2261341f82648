;; Logs a line that begins in its memory and ends beyond it.
;; outcome: trap "out of bounds"
(func $attack
  (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 10)) (i32.const 11)))
