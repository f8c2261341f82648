;; Deletes 20,000 ranges, each of one key, none of which is there.
;; harmless
(func $attack
  (local $store i32) (local $key i32)
  (local.set $store (call $mine))
  (loop $again
    (i32.store (i32.const 1024) (local.get $key))
    (i32.store (i32.const 1028) (i32.add (local.get $key) (i32.const 1)))
    (call $store.delete-range (local.get $store)
      (i32.const 1) (i32.const 1024) (i32.const 4) (i32.const 1) (i32.const 1028) (i32.const 4))
    (br_if $again (i32.lt_u (local.tee $key (i32.add (local.get $key) (i32.const 1))) (i32.const 20000)))))
