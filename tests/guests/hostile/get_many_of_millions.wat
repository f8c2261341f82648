;; Asks for three million keys, all of them empty, in one call.
;; outcome: limit "ask for fewer keys"
;; limits: memory = "32MiB"
(func $attack
  (call $have (i32.const 0x1000000))
  (call $store.get-many (call $mine) (i32.const 0x200000) (i32.const 12000000) (i32.const 0) (i32.const 0)
    (i32.const 0) (i32.const 0) (i32.const 128)))
