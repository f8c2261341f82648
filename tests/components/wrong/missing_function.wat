(component
  (instance $x)
  (export "wasm-host:task/batch-handler@0.1.0" (instance $x)))
