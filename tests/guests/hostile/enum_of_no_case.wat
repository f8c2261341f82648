;; Logs with the level number 77, of six.
;; outcome: trap "discriminant"
(func $attack
  (call $log (i32.const 77) (i32.const 0) (i32.const 0) (i32.const 32) (i32.const 3)))
