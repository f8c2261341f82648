;; Asks for keys that end behind the bytes that they lie in.
;; outcome: trap "the column of keys"
(func $attack
  (i64.store (i32.const 1024) (i64.const 0xfffffffffffffff0))
  (call $store.get-many (call $mine) (i32.const 1024) (i32.const 8) (i32.const 32) (i32.const 4)
    (i32.const 1032) (i32.const 0) (i32.const 128)))
