(component
  (component $i (core module $m (func (export "f"))) (core instance $c (instantiate $m)) (func (export "process") (canon lift (core func $c "f"))))
  (instance $x (instantiate $i))
  (instance $y (instantiate $i))
  (export "wasm-host:task/message-handler@0.1.0" (instance $x))
  (export "wasm-host:task/batch-handler@0.1.0" (instance $y)))
