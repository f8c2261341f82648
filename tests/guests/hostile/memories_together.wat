;; Lets eight memories grow in turn: each alone stays below the limit, all together do not.
;; outcome: memory "its limit `memory` is 16777216"
(memory $a 1) (memory $b 1) (memory $c 1) (memory $d 1) (memory $e 1) (memory $f 1) (memory $g 1)
(func $attack
  (local $refused i32)
  (loop $again
    (local.set $refused (i32.or (local.get $refused) (i32.eq (i32.const -1) (memory.grow $a (i32.const 8)))))
    (local.set $refused (i32.or (local.get $refused) (i32.eq (i32.const -1) (memory.grow $b (i32.const 8)))))
    (local.set $refused (i32.or (local.get $refused) (i32.eq (i32.const -1) (memory.grow $c (i32.const 8)))))
    (local.set $refused (i32.or (local.get $refused) (i32.eq (i32.const -1) (memory.grow $d (i32.const 8)))))
    (local.set $refused (i32.or (local.get $refused) (i32.eq (i32.const -1) (memory.grow $e (i32.const 8)))))
    (local.set $refused (i32.or (local.get $refused) (i32.eq (i32.const -1) (memory.grow $f (i32.const 8)))))
    (local.set $refused (i32.or (local.get $refused) (i32.eq (i32.const -1) (memory.grow $g (i32.const 8)))))
    (br_if $again (i32.eqz (local.get $refused))))
  unreachable)
