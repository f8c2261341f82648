(component
  (component $i (core module $m (func (export "f"))) (core instance $c (instantiate $m)) (func (export "process") (canon lift (core func $c "f"))))
  (instance $x (instantiate $i))
  (export "wasm-host:task/batch-handler@0.2.0" (instance $x)))
