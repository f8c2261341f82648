;; Drops a handle twice.
;; outcome: trap "handle index"
(func $attack
  (local $store i32)
  (local.set $store (call $mine))
  (call $store.drop (local.get $store))
  (call $store.drop (local.get $store)))
