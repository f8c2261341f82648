(component
  (core module
    (func (export "f")))
  (component
    (core module))
  (core module $tables
    (table 10 externref)))
