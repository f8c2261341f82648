;; Reads from a store by a handle that nobody has given it.
;; outcome: trap "handle index"
(func $attack
  (call $store.get (i32.const 0x0fff_fff0) (i32.const 0) (i32.const 1) (i32.const 128)))
