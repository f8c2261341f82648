;; Calls itself without end, with 2,000 values on the stack in each call: one step leads far beyond the end of the stack.
;; outcome: trap "call stack exhausted"
(func $deeper (param $n i64) (result i64)
  {{2000:(i64.mul (local.get $n) (i64.const #))
}}
  (call $deeper (i64.add (local.get $n) (i64.const 1)))
  {{2000:i64.xor
}})
(func $attack
  (drop (call $deeper (i64.const 3))))
