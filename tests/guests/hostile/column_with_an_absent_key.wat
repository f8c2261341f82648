;; Asks for a key that it says is absent.
;; outcome: trap "absent"
(func $attack
  (i64.store (i32.const 1024) (i64.const 0x0000000400000000))
  (call $store.get-many (call $mine) (i32.const 1024) (i32.const 8) (i32.const 32) (i32.const 4)
    (i32.const 1032) (i32.const 4) (i32.const 128)))
