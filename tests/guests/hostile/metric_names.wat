;; Reports figures under ever new names.
;; outcome: limit "`metric-names`"
(data (i32.const 1024) "a000")
(func $attack
  (local $number i32)
  (loop $again
    (i32.store8 (i32.const 1027) (i32.add (i32.const 0x61) (i32.rem_u (local.get $number) (i32.const 26))))
    (i32.store8 (i32.const 1026) (i32.add (i32.const 0x61) (i32.rem_u (i32.div_u (local.get $number) (i32.const 26)) (i32.const 26))))
    (call $counter-add (i32.const 1024) (i32.const 4) (i64.const 1))
    (local.set $number (i32.add (local.get $number) (i32.const 1)))
    (br $again)))
