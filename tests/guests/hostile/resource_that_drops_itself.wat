;; Its resource drops itself again while it is being dropped, and calls itself without end.
;; exports: resources
;; outcome: trap "call stack exhausted"
(import "[export]things" "[resource-new]thing" (func $thing.new (param i32) (result i32)))
(import "[export]things" "[resource-drop]thing" (func $thing.drop (param i32)))
(func $drop-thing (export "things#[dtor]thing") (param i32)
  (call $thing.drop (call $thing.new (i32.const 2)))
  (call $thing.drop (i32.const 1)))
(func $attack
  (call $thing.drop (call $thing.new (i32.const 1))))
