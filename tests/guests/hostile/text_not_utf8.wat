;; Rejects the message with a reason that is not UTF-8.
;; outcome: trap "invalid utf-8"
(func $attack
  (i32.store (i32.const 1024) (i32.const 0xfffec0ff))
  (i32.store8 (i32.const 64) (i32.const 1))
  (i32.store (i32.const 68) (i32.const 1024))
  (i32.store (i32.const 72) (i32.const 4)))
