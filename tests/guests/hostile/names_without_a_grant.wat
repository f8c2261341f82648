;; Looks up a name of the network, and traps if it gets an answer.
;; harmless
(data (i32.const 1024) "localhost")
(func $attack
  (call $resolve-addresses (call $network) (i32.const 1024) (i32.const 9) (i32.const 128))
  (if (i32.eqz (i32.load8_u (i32.const 128))) (then unreachable)))
