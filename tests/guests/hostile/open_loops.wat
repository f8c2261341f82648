;; Computes for ever when the instance is opened.
;; exports: lifecycle
;; held: "`call-deadline`"
(func $open (export "wasm-host:task/lifecycle@0.1.1#open") (result i32)
  (loop $again (br $again))
  (i32.const 64))
(func $close (export "wasm-host:task/lifecycle@0.1.1#close"))
(func $attack)
