;; Begins a scan while the instance is opened, and uses its cursor later.
;; exports: lifecycle
;; outcome: trap "the cursor has ended"
(global $kept (mut i32) (i32.const 0))
(func $open (export "wasm-host:task/lifecycle@0.1.1#open") (result i32)
  (global.set $kept (call $scan-all (call $mine)))
  (i32.const 64))
(func $close (export "wasm-host:task/lifecycle@0.1.1#close"))
(func $attack
  (call $cursor.next (global.get $kept) (i32.const 1) (i32.const 1) (i32.const 128)))
