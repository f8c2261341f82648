;; Asks for keys whose ends are seven bytes.
;; outcome: trap "packed numbers"
(func $attack
  (call $store.get-many (call $mine) (i32.const 1024) (i32.const 7) (i32.const 32) (i32.const 4)
    (i32.const 0) (i32.const 0) (i32.const 128)))
