;; Reads from a store whose handle it has dropped.
;; outcome: trap "handle index"
(func $attack
  (local $store i32)
  (local.set $store (call $mine))
  (call $store.drop (local.get $store))
  (call $store.get (local.get $store) (i32.const 0) (i32.const 1) (i32.const 128)))
