;; Writes the empty key three million times in one call of the host, each time without a value.
;; outcome: limit "`staged-bytes`"
;; limits: memory = "32MiB"
(func $attack
  (call $have (i32.const 0x1800000))
  (call $store.put-many (call $mine)
    (i32.const 0x200000) (i32.const 12000000) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0x200000) (i32.const 12000000) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0) (i32.const 0) (i64.const 0)))
