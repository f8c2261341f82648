;; Compares what instructions of SIMD that may differ between machines give with what they give on every machine.
;; harmless
(func $attack
  (if (i32.ne
      (i8x16.extract_lane_u 3 (i8x16.relaxed_swizzle (v128.const i8x16 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16) (i8x16.splat (i32.const 255))))
      (i32.const 0))
    (then unreachable))
  (if (i32.ne
      (i32x4.extract_lane 0 (i32x4.relaxed_trunc_f32x4_s (f32x4.splat (f32.const nan))))
      (i32.const 0))
    (then unreachable)))
