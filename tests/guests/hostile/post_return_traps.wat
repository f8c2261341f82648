;; Traps when its answer has been taken and it is to clean up.
;; outcome: trap "unreachable"
(func $after (export "cabi_post_wasm-host:task/message-handler@0.1.1#process") (param i32)
  (global.set $heap (i32.const 0x100000))
  (if (global.get $attacked) (then unreachable)))
(global $attacked (mut i32) (i32.const 0))
(func $attack (global.set $attacked (i32.const 1)))
