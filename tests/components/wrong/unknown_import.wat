(component
  (import "acme:db/query@1.0.0" (instance (export "run" (func))))
  (import "wasi:http/outgoing-handler@0.2.0" (instance))
  (component $i (core module $m (func (export "f"))) (core instance $c (instantiate $m)) (func (export "process") (canon lift (core func $c "f"))))
  (instance $x (instantiate $i))
  (export "wasm-host:task/message-handler@0.1.0" (instance $x)))
