;; A function with 600,000 branches and as many values that live until its end: compiling it takes more memory than it may.
;; limits: compile-memory = "256MiB"
;; refused: "`compile-memory` = 268435456 bytes"
(func $much (param i64) (result i64)
  (block {{600000:(br_if 0 (i64.eq (local.get 0) (i64.const #)))
}})
  (local.get 0))
(func $attack)
