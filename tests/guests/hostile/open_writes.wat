;; Writes state when the instance is opened, which is outside of any batch.
;; exports: lifecycle
;; held: "outside of a batch"
(func $open (export "wasm-host:task/lifecycle@0.1.1#open") (result i32)
  (call $put4 (call $mine) (i32.const 1) (i32.const 0) (i32.const 1))
  (i32.const 64))
(func $close (export "wasm-host:task/lifecycle@0.1.1#close"))
(func $attack)
