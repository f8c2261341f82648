;; Takes a cursor for a store.
;; outcome: trap "handle index"
(func $attack
  (call $store.get (call $scan-all (call $mine)) (i32.const 0) (i32.const 1) (i32.const 128)))
