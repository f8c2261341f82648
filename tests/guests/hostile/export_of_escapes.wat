;; Exports a function under a name that no component may have.
;; refused: "it does not compile"
(component
  (core module $m (func (export "f")))
  (core instance $c (instantiate $m))
  (func $f (canon lift (core func $c "f")))
  (export "\1b[2J" (func $f)))
