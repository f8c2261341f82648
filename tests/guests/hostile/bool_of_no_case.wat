;; Begins scans with booleans that are neither 0 nor 1: all of them are true.
;; harmless
(func $attack
  (call $cursor.drop (call $store.scan (call $mine) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 7) (i32.const -1))))
