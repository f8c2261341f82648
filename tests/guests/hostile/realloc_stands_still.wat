;; Gives the host the same address each time, so that what it is given overwrites itself.
;; harmless
(func $realloc (export "cabi_realloc") (param $old i32) (param $old-length i32) (param $align i32) (param $length i32) (result i32)
  (if (i32.ne (local.get $length) (i32.const 4321))
    (then (return (call $bump (local.get $old) (local.get $old-length) (local.get $align) (local.get $length)))))
  (i32.const 0x100000))
(func $attack
  (local $store i32) (local $keys i32)
  (local.set $store (call $mine))
  (call $put4 (local.get $store) (i32.const 1) (i32.const 0) (i32.const 4321))
  (i32.store (i32.const 1024) (i32.const 4))
  (call $store.get-many (local.get $store) (i32.const 1024) (i32.const 4) (i32.const 40) (i32.const 4)
    (i32.const 0) (i32.const 0) (i32.const 128)))
