;; Writes an entry with a key of 1 MiB.
;; outcome: limit "`key-bytes`"
(func $attack
  (call $store.put (call $mine) (i32.const 0) (i32.const 0x100000) (i32.const 0) (i32.const 1)
    (i32.const 0) (i32.const 0) (i64.const 0)))
