;; Adds 2^64 - 1 to a counter of figures, again and again.
;; harmless
(data (i32.const 1024) "sum")
(func $attack
  (call $counter-add (i32.const 1024) (i32.const 3) (i64.const -1))
  (call $counter-add (i32.const 1024) (i32.const 3) (i64.const -1)))
