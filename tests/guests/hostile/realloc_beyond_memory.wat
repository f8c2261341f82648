;; Gives the host an address at the end of its memory.
;; outcome: trap "beyond end of memory"
(func $realloc (export "cabi_realloc") (param $old i32) (param $old-length i32) (param $align i32) (param $length i32) (result i32)
  (if (i32.ne (local.get $length) (i32.const 4321))
    (then (return (call $bump (local.get $old) (local.get $old-length) (local.get $align) (local.get $length)))))
  (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 4)))
(func $attack)
