;; Has a hundred tables.
;; refused: "defined tables count of 100 exceeds the per-instance limit of 64"
{{100:(table 1 funcref)
}}
(func $attack)
