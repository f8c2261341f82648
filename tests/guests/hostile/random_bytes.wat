;; Asks for 2^64 - 1 random bytes.
;; outcome: limit "`random-bytes`"
(func $attack
  (call $random-bytes (i64.const -1) (i32.const 128)))
