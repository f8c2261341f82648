;; Writes two keys and one value.
;; outcome: trap "2 keys and 1 values"
(func $attack
  (call $store.put-many (call $mine)
    (i32.const 1024) (i32.const 8) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0) (i32.const 0) (i64.const 0)))
