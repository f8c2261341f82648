;; Adds to a counter until it is more than it can be.
;; outcome: trap "increment"
(func $attack
  (drop (call $store.increment (call $mine) (i32.const 0) (i32.const 1) (i64.const 0x7fff_ffff_ffff_ffff)))
  (drop (call $store.increment (call $mine) (i32.const 0) (i32.const 1) (i64.const 1))))
