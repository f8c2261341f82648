;; Writes state, sends messages and reports figures, and traps: none of it may be left.
;; entries: 0
;; outcome: trap "unreachable"
(data (i32.const 1024) "sum")
(func $attack
  (call $put4 (call $mine) (i32.const 1) (i32.const 0) (i32.const 10))
  (call $send-out (i32.const 0) (i32.const 10) (i32.const 0) (i32.const 0))
  (call $counter-add (i32.const 1024) (i32.const 3) (i64.const 1))
  unreachable)
