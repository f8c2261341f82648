;; Deletes a range whose bounds have 1 MiB.
;; outcome: limit "`key-bytes`"
(func $attack
  (call $store.delete-range (call $mine)
    (i32.const 1) (i32.const 0) (i32.const 0x100000) (i32.const 1) (i32.const 1) (i32.const 0x100000)))
