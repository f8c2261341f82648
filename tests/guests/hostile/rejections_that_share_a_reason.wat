;; Rejects 1,000 messages, of which the batch has one, all with the same reason of 1 MiB: the host would copy a gigabyte.
;; exports: batch
;; outcome: limit "copies at most 67108864 bytes out of the guest"
(func $attack
  (local $at i32) (local $index i32)
  (call $have (i32.const 0xf00000))
  (memory.fill (i32.const 0x100000) (i32.const 0x41) (i32.const 0x100000))
  (memory.fill (i32.const 0x100000) (i32.const 0x41) (i32.const 0x100000))
  (local.set $at (i32.const 0x200000))
  (loop $again
    (i32.store (local.get $at) (local.get $index))
    (i32.store offset=4 (local.get $at) (i32.const 0x100000))
    (i32.store offset=8 (local.get $at) (i32.const 0x100000))
    (local.set $at (i32.add (local.get $at) (i32.const 24)))
    (local.set $index (i32.add (local.get $index) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $index) (i32.const 1000))))
  (i32.store (i32.const 68) (i32.const 0x200000))
  (i32.store (i32.const 72) (i32.const 1000)))
