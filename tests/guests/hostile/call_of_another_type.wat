;; Calls a function through a table as if it had another type.
;; outcome: trap "indirect call type mismatch"
(table funcref (elem $attack))
(func $attack (call_indirect (param i32) (result i64) (i32.const 1) (i32.const 0)) drop)
