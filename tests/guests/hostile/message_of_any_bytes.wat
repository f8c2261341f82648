;; Sends a message whose key and value are no text, with the host's own headers and escape sequences in the names of others.
;; sends: 1
;; harmless
(data (i32.const 2048) "wasm-host.kind\00\1b[2J\07\0a")
(func $attack
  (i32.store (i32.const 1024) (i32.const 2048))
  (i32.store (i32.const 1028) (i32.const 14))
  (i32.store (i32.const 1044) (i32.const 2062))
  (i32.store (i32.const 1048) (i32.const 7))
  (memory.fill (i32.const 4096) (i32.const 0xfe) (i32.const 1000))
  (call $send (i32.const 32) (i32.const 3) (i32.const 1) (i32.const 4096) (i32.const 1000)
    (i32.const 1) (i32.const 4096) (i32.const 1000) (i32.const 1024) (i32.const 2)
    (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0)))
