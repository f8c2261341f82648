;; Has a hundred memories. Each takes addresses of the host, even if nothing is in it.
;; refused: "defined memories count of 100 exceeds the per-instance limit of 8"
{{99:(memory 1)
}}
(func $attack)
