;; A component of more bytes than the job takes.
;; limits: component-bytes = "1KiB"
;; refused: "it has more than `component-bytes` = 1024"
(data (i32.const 1024) "{{1000:many }}")
(func $attack)
