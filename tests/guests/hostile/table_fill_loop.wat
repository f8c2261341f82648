;; Lets a table grow as far as it may, and fills and copies it for ever.
;; outcome: deadline "`call-deadline`"
(table $t 1 funcref)
(func $attack
  (loop $more
    (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
  (loop $again
    (table.fill $t (i32.const 0) (ref.null func) (table.size $t))
    (table.copy $t $t (i32.const 0) (i32.const 1) (i32.sub (table.size $t) (i32.const 1)))
    (br $again)))
