;; Rejects the message with a reason of 8 MiB.
;; outcome: rejected "AAAA"
(func $attack
  (call $have (i32.const 0xa00000))
  (memory.fill (i32.const 0x100000) (i32.const 0x41) (i32.const 0x800000))
  (i32.store8 (i32.const 64) (i32.const 1))
  (i32.store (i32.const 68) (i32.const 0x100000))
  (i32.store (i32.const 72) (i32.const 0x800000)))
