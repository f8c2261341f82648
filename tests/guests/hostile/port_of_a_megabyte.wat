;; Sends to a port whose name has a million characters.
;; outcome: trap "the stage declares no output port"
(func $attack
  (memory.fill (i32.const 0x10000) (i32.const 0x1b) (i32.const 1000000))
  (call $send (i32.const 0x10000) (i32.const 1000000) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0)))
