;; Computes for ever when the instance is closed.
;; exports: lifecycle
;; harmless
;; says: "`call-deadline`"
(func $open (export "wasm-host:task/lifecycle@0.1.1#open") (result i32) (i32.const 64))
(func $close (export "wasm-host:task/lifecycle@0.1.1#close") (loop $again (br $again)))
(func $attack)
