;; Rejects message 4294967295 of a batch of one.
;; exports: batch
;; outcome: trap "a rejection of message 4294967295, but the batch has 1"
(func $attack
  (local $at i32) (local $index i32)
  (call $have (i32.const 0xf00000))
  (local.set $at (i32.const 0x200000))
  (loop $again
    (i32.store (local.get $at) (i32.const -1))
    (local.set $at (i32.add (local.get $at) (i32.const 24)))
    (local.set $index (i32.add (local.get $index) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $index) (i32.const 1))))
  (i32.store (i32.const 68) (i32.const 0x200000))
  (i32.store (i32.const 72) (i32.const 1)))
