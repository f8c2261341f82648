;; Reads the same key for ever. It costs the guest nothing, and the host a look-up.
;; outcome: limit "`operations`"
;; limits: operations = 10000
(func $attack
  (local $store i32)
  (local.set $store (call $mine))
  (loop $again
    (call $store.get (local.get $store) (i32.const 1024) (i32.const 4) (i32.const 128))
    (br $again)))
