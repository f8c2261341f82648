;; Answers a batch of one with an error: that rejects its message.
;; exports: batch
;; outcome: rejected "out"
(func $attack
  (i32.store8 (i32.const 64) (i32.const 1))
  (i32.store (i32.const 68) (i32.const 32))
  (i32.store (i32.const 72) (i32.const 3)))
