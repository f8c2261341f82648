;; Writes an entry with a time to live, which this host does not have.
;; outcome: trap "`ttl-ms` is not supported"
(func $attack
  (call $store.put (call $mine) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)
    (i32.const 1) (i32.const 1) (i64.const -1)))
