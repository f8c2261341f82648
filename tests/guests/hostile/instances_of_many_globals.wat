;; Makes 40 instances of a module with 200,000 globals: 3.2 MB for each, which is not in the memory that is bounded.
;; refused: "exceeds the configured maximum of 4194304 bytes"
(func $attack)
;; in the component:
(core module $many
  {{200000:(global (mut v128) (v128.const i64x2 1 #))
}})
{{40:(core instance (instantiate $many))
}}
