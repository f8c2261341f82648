;; Rejects the one message of its batch 400,000 times.
;; exports: batch
;; outcome: trap "message 0 is rejected twice"
(func $attack
  (local $at i32) (local $index i32)
  (call $have (i32.const 0xf00000))
  (local.set $at (i32.const 0x200000))
  (loop $again
    
    (local.set $at (i32.add (local.get $at) (i32.const 24)))
    (local.set $index (i32.add (local.get $index) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $index) (i32.const 400000))))
  (i32.store (i32.const 68) (i32.const 0x200000))
  (i32.store (i32.const 72) (i32.const 400000)))
