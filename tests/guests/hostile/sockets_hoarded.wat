;; Makes sockets for ever, where the job lets it connect to one address.
;; capabilities: network = ["127.0.0.1:9"]
;; outcome: limit "`handles`"
(func $attack
  (loop $again
    (call $create-tcp-socket (i32.const 0) (i32.const 128))
    (br_if $again (i32.eqz (i32.load8_u (i32.const 128))))))
