;; Rejects the message with a reason that lies beyond its memory.
;; outcome: trap "out of bounds"
(func $attack
  (i32.store8 (i32.const 64) (i32.const 1))
  (i32.store (i32.const 68) (i32.const -16))
  (i32.store (i32.const 72) (i32.const 32)))
