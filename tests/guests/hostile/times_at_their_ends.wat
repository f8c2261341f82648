;; Sends messages from the first and the last millisecond that a number of 64 bits can name.
;; sends: 2
;; harmless
(func $send-at (param $time i64)
  (call $send (i32.const 32) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 1) (local.get $time) (i32.const 0) (i32.const 0)))
(func $attack
  (call $send-at (i64.const 0x8000_0000_0000_0000))
  (call $send-at (i64.const 0x7fff_ffff_ffff_ffff)))
