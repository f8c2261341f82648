;; Lets a table grow until it gets no more, and traps then.
;; outcome: limit "its limit `table-elements` is 100000"
(table $t 1 funcref)
(func $attack
  (loop $again
    (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
  unreachable)
