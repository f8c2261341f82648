;; Has 300,000 globals: an instance of 4.8 MB without any memory.
;; refused: "exceeds"
{{300000:(global (mut i64) (i64.const #))
}}
(func $attack)
