;; Rejects the message, after it has sent messages with the host's own headers and control characters in names.
;; outcome: rejected "made up"
(data (i32.const 2048) "wasm-host.kind\00\1b[2Jmade up")
(func $attack
  (i32.store (i32.const 1024) (i32.const 2048))
  (i32.store (i32.const 1028) (i32.const 14))
  (i32.store (i32.const 1044) (i32.const 2048))
  (i32.store (i32.const 1048) (i32.const 19))
  (call $send-out (i32.const 32) (i32.const 3) (i32.const 1024) (i32.const 2))
  (i32.store8 (i32.const 64) (i32.const 1))
  (i32.store (i32.const 68) (i32.const 2067))
  (i32.store (i32.const 72) (i32.const 7)))
