;; Sends to partition 2^32 - 1.
;; outcome: trap "partition 4294967295 of output port"
(func $attack
  (call $send (i32.const 32) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0) (i64.const 0) (i32.const 1) (i32.const -1)))
