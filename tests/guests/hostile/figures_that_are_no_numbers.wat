;; Records what is no number, and infinities, in a histogram.
;; harmless
(data (i32.const 1024) "waits")
(func $attack
  (call $histogram-record (i32.const 1024) (i32.const 5) (f64.const nan))
  (call $histogram-record (i32.const 1024) (i32.const 5) (f64.const inf))
  (call $histogram-record (i32.const 1024) (i32.const 5) (f64.const -inf))
  (call $histogram-record (i32.const 1024) (i32.const 5) (f64.const 0x1p1023)))
