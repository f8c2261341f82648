(component
  (import "wasm-host:task/context@0.1.0" (instance (export "now-ms" (func (result string)))))
  (component $i (core module $m (func (export "f"))) (core instance $c (instantiate $m)) (func (export "process") (canon lift (core func $c "f"))))
  (instance $x (instantiate $i))
  (export "wasm-host:task/message-handler@0.1.0" (instance $x)))
