;; Writes an entry with a value of 10 MiB.
;; outcome: limit "`value-bytes`"
(func $attack
  (call $have (i32.const 0xa00000))
  (call $put4 (call $mine) (i32.const 1) (i32.const 0) (i32.const 0xa00000)))
