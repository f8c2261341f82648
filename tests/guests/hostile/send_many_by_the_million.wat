;; Sends three million messages without a byte in one call of the host.
;; outcome: limit "`staged-bytes`"
;; limits: memory = "32MiB"
(func $attack
  (call $have (i32.const 0x1800000))
  (i64.store (i32.const 1024) (i64.const 0x0000_0003_0000_0020))
  (i32.store offset=36 (i32.const 1024) (i32.const 0x200000))
  (i32.store offset=40 (i32.const 1024) (i32.const 12000000))
  (call $send-many (i32.const 1024)))
