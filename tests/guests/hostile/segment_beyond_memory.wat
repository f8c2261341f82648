;; Its data begin beyond the end of its memory.
;; refused: "out of bounds"
(data (i32.const 0x7fff0000) "x")
(func $attack)
