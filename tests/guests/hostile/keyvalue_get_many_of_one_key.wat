;; Asks for one absent key seventy thousand times in one call of `wasi:keyvalue`: a pair for each comes back.
;; harmless
(func $attack
  (local $at i32)
  (call $have (i32.const 0x400000))
  (call $bucket.open (i32.const 48) (i32.const 4) (i32.const 128))
  (local.set $at (i32.const 0x200000))
  (global.set $heap (i32.const 0x300000))
  (loop $again
    (i32.store (local.get $at) (i32.const 0x1000))
    (i32.store offset=4 (local.get $at) (i32.const 100))
    (local.set $at (i32.add (local.get $at) (i32.const 8)))
    (br_if $again (i32.lt_u (local.get $at) (i32.const 0x290000))))
  (call $bucket.get-many (i32.load (i32.const 132)) (i32.const 0x200000) (i32.const 70000) (i32.const 128)))
