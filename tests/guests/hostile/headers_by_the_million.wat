;; Sends a message with three million empty headers. Each is 20 bytes in the guest and several times as much in the host.
;; outcome: limit "copies at most 67108864 bytes out of the guest"
;; limits: memory = "64MiB"
(func $attack
  (call $have (i32.const 0x3e00000))
  (call $send-out (i32.const 32) (i32.const 3) (i32.const 0x100000) (i32.const 3000000)))
