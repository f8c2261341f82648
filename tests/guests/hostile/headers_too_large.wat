;; Sends a message with one header whose name has 1 MiB.
;; outcome: limit "`header-bytes`"
(func $attack
  (i32.store (i32.const 1024) (i32.const 0x100000))
  (i32.store (i32.const 1028) (i32.const 0x100000))
  (call $send-out (i32.const 32) (i32.const 3) (i32.const 1024) (i32.const 1)))
