;; Gives the host an odd address for a list of pairs, which have to be at multiples of four.
;; outcome: trap "aligned"
(global $odd (mut i32) (i32.const 0))
(func $realloc (export "cabi_realloc") (param $old i32) (param $old-length i32) (param $align i32) (param $length i32) (result i32)
  (i32.add (global.get $odd) (call $bump (local.get $old) (local.get $old-length) (local.get $align) (local.get $length))))
(func $attack
  (call $bucket.open (i32.const 48) (i32.const 4) (i32.const 128))
  (i32.store (i32.const 1024) (i32.const 48))
  (i32.store (i32.const 1028) (i32.const 4))
  (global.set $odd (i32.const 1))
  (call $bucket.get-many (i32.load (i32.const 132)) (i32.const 1024) (i32.const 1) (i32.const 128)))
