;; Exports ten thousand functions beside its handler.
;; harmless
(func $attack)
;; in the component:
(core module $other (func (export "f")))
(core instance $o (instantiate $other))
(func $f (canon lift (core func $o "f")))
{{10000:(export "other-#" (func $f))
}}
