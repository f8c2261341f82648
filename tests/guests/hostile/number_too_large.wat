;; Makes an integer of a number that is too large for one.
;; outcome: trap "integer overflow"
(func $attack (drop (i32.trunc_f64_s (f64.const 1e300))))
