;; Adds to an entry that is no counter.
;; outcome: trap "increment"
(func $attack
  (call $put4 (call $mine) (i32.const 1) (i32.const 0) (i32.const 7))
  (drop (call $store.increment (call $mine) (i32.const 40) (i32.const 4) (i64.const 1))))
