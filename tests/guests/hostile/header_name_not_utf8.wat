;; Sends a message with a header whose name is not UTF-8.
;; outcome: trap "invalid utf-8"
(func $attack
  (i32.store (i32.const 1024) (i32.const 2048))
  (i32.store (i32.const 1028) (i32.const 1))
  (i32.store8 (i32.const 2048) (i32.const 255))
  (call $send-out (i32.const 32) (i32.const 3) (i32.const 1024) (i32.const 1)))
