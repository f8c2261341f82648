;; Makes sockets of TCP and UDP, of both families, and traps if it gets one.
;; harmless
(func $tcp (param i32)
  (call $create-tcp-socket (local.get 0) (i32.const 128))
  (if (i32.eqz (i32.load8_u (i32.const 128))) (then unreachable)))
(func $udp (param i32)
  (call $create-udp-socket (local.get 0) (i32.const 128))
  (if (i32.eqz (i32.load8_u (i32.const 128))) (then unreachable)))
(func $attack
  (call $tcp (i32.const 0)) (call $tcp (i32.const 1))
  (call $udp (i32.const 0)) (call $udp (i32.const 1)))
