;; Waits for no pollable at all.
;; outcome: trap "empty poll list"
(func $attack
  (call $poll (i32.const 1024) (i32.const 0) (i32.const 128)))
