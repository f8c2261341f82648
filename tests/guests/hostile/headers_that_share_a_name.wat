;; Sends a message whose 100,000 headers all have the same name, of 1 MiB: 100 GiB, if the host copied them.
;; outcome: limit "copies at most 67108864 bytes out of the guest"
(func $attack
  (local $at i32)
  (call $have (i32.const 0x800000))
  (local.set $at (i32.const 0x300000))
  (loop $again
    (i32.store (local.get $at) (i32.const 0x100000))
    (i32.store offset=4 (local.get $at) (i32.const 0x100000))
    (local.set $at (i32.add (local.get $at) (i32.const 20)))
    (br_if $again (i32.lt_u (local.get $at) (i32.const 0x4e8480))))
  (call $send-out (i32.const 32) (i32.const 3) (i32.const 0x300000) (i32.const 100000)))
