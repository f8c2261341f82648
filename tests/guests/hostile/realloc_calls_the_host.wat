;; Calls the host while that asks for memory.
;; outcome: trap "while the host asked it for memory"
(func $realloc (export "cabi_realloc") (param $old i32) (param $old-length i32) (param $align i32) (param $length i32) (result i32)
  (if (i32.eq (local.get $length) (i32.const 4321)) (then (drop (call $now))))
  (call $bump (local.get $old) (local.get $old-length) (local.get $align) (local.get $length)))
(func $attack)
