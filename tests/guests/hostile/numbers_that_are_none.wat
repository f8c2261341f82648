;; Makes numbers that are none in many ways, with bits of its own in them, and traps if any bits come through. Then it reports them.
;; harmless
(func $check (param f64)
  (if (i64.ne (i64.reinterpret_f64 (local.get 0)) (i64.const 0x7ff8000000000000)) (then unreachable)))
(data (i32.const 1024) "level")
(func $attack
  (local $odd f64)
  (local.set $odd (f64.reinterpret_i64 (i64.const 0xfff7_dead_beef_0001)))
  (call $check (f64.add (local.get $odd) (f64.const 1)))
  (call $check (f64.div (f64.const 0) (f64.const 0)))
  (call $check (f64.sqrt (f64.const -1)))
  (call $check (f64.sub (f64.const inf) (f64.const inf)))
  (call $check (f64.promote_f32 (f32.reinterpret_i32 (i32.const 0xffa0_0001))))
  (call $gauge-set (i32.const 1024) (i32.const 5) (local.get $odd))
  (call $gauge-set (i32.const 1024) (i32.const 5) (f64.const -inf)))
