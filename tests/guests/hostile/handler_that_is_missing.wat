;; Exports a handler without its function.
;; refused: "process"
(component
  (instance $x)
  (export "wasm-host:task/message-handler@0.1.1" (instance $x)))
