;; Its memory has 4 GiB from the beginning.
;; refused: "it begins with more memory than `memory` allows"
(memory $huge 65535)
(func $attack)
