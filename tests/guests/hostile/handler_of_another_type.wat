;; Its handler takes a number and not a message.
;; refused: "type mismatch with parameters: expected `record` found `u32`"
(component
  (core module $m (func (export "f") (param i32)))
  (core instance $c (instantiate $m))
  (component $i
    (import "f" (func $f (param "number" u32)))
    (export "process" (func $f)))
  (func $f (param "number" u32) (canon lift (core func $c "f")))
  (instance $x (instantiate $i (with "f" (func $f))))
  (export "wasm-host:task/message-handler@0.1.1" (instance $x)))
