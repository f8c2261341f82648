;; Its table has ten million elements from the beginning.
;; refused: "it begins with a larger table than `table-elements` allows"
(table $huge 10000000 funcref)
(func $attack)
