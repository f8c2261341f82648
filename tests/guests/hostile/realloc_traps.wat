;; Traps when the host asks it for memory.
;; outcome: trap "unreachable"
(func $realloc (export "cabi_realloc") (param $old i32) (param $old-length i32) (param $align i32) (param $length i32) (result i32)
  (if (i32.eq (local.get $length) (i32.const 4321)) (then unreachable))
  (call $bump (local.get $old) (local.get $old-length) (local.get $align) (local.get $length)))
(func $attack)
