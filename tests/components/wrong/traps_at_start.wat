(component
  (component $i (core module $m (func (export "f")) (func $s unreachable) (start $s)) (core instance $c (instantiate $m)) (func (export "process") (canon lift (core func $c "f"))))
  (instance $x (instantiate $i))
  (export "wasm-host:task/message-handler@0.1.0" (instance $x)))
