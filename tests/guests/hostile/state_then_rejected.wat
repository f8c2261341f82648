;; Writes state and sends messages, and rejects the message: none of it may be left.
;; entries: 0
;; outcome: rejected "out"
(func $attack
  (call $put4 (call $mine) (i32.const 1) (i32.const 0) (i32.const 10))
  (call $send-out (i32.const 0) (i32.const 10) (i32.const 0) (i32.const 0))
  (i32.store8 (i32.const 64) (i32.const 1))
  (i32.store (i32.const 68) (i32.const 32))
  (i32.store (i32.const 72) (i32.const 3)))
