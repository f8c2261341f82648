;; Makes a hundred instances of an empty module.
;; refused: "core module instances, which exceeds"
(func $attack)
;; in the component:
(core module $empty)
{{100:(core instance (instantiate $empty))
}}
