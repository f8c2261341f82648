;; Gives the host the last address of all: with the length added there is an overflow.
;; outcome: trap "beyond end of memory"
(func $realloc (export "cabi_realloc") (param $old i32) (param $old-length i32) (param $align i32) (param $length i32) (result i32)
  (if (i32.ne (local.get $length) (i32.const 4321))
    (then (return (call $bump (local.get $old) (local.get $old-length) (local.get $align) (local.get $length)))))
  (i32.const -1))
(func $attack)
