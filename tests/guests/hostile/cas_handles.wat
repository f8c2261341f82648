;; Makes handles for a compare-and-swap of `wasi:keyvalue` for ever; the host keeps a key for each.
;; outcome: limit "`handles`"
(func $attack
  (local $bucket i32)
  (call $bucket.open (i32.const 48) (i32.const 4) (i32.const 128))
  (local.set $bucket (i32.load (i32.const 132)))
  (loop $again
    (call $cas.new (local.get $bucket) (i32.const 1024) (i32.const 8000) (i32.const 128))
    (br $again)))
