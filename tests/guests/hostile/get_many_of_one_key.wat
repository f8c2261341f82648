;; Writes a value of 1 MB, and asks for it 4,000 times in one call: 4 GB for the host to give back.
;; outcome: limit "one call returns at most 16777216 bytes"
;; limits: memory = "64MiB"
(func $attack
  (local $store i32) (local $at i32)
  (call $have (i32.const 0x300000))
  (local.set $store (call $mine))
  (call $put4 (local.get $store) (i32.const 1) (i32.const 0x100000) (i32.const 1000000))
  (local.set $at (i32.const 0))
  (loop $again
    (i32.store offset=0x2000 (i32.shl (local.get $at) (i32.const 2)) (i32.shl (i32.add (local.get $at) (i32.const 1)) (i32.const 2)))
    (i32.store offset=0x10000 (i32.shl (local.get $at) (i32.const 2)) (i32.const 1))
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $at) (i32.const 4000))))
  (call $store.get-many (local.get $store) (i32.const 0x2000) (i32.const 16000) (i32.const 0x10000) (i32.const 16000)
    (i32.const 0) (i32.const 0) (i32.const 128)))
