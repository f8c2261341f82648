;; Gives the third case of an option, which has two.
;; outcome: trap "discriminant"
(func $attack
  (call $store.put (call $mine) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)
    (i32.const 2) (i32.const 0) (i64.const 0)))
