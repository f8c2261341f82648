;; Changes its globals, its memory and its table, and traps. At every tick it looks whether an instance has kept any of it.
;; outcome: trap "unreachable"
(global $poison (mut i32) (i32.const 0))
(global $is-new (mut i32) (i32.const 1))
(table $t 1 funcref)
(elem declare func $attack)
(func $attack
  (global.set $poison (i32.const 1))
  (i32.store (i32.const 2048) (i32.const 1))
  (drop (memory.grow (i32.const 10)))
  (i32.store (i32.const 0x200000) (i32.const 1))
  (table.set $t (i32.const 0) (ref.func $attack))
  unreachable)
(func $tick
  (if (global.get $poison) (then unreachable))
  (if (i32.load (i32.const 2048)) (then unreachable))
  (if (i32.eqz (ref.is_null (table.get $t (i32.const 0)))) (then unreachable))
  (if (global.get $is-new)
    (then
      (if (i32.ne (memory.size) (i32.const 32)) (then unreachable))
      (drop (memory.grow (i32.const 10)))))
  ;; What is in a new page.
  (if (i32.load (i32.const 0x200000)) (then unreachable))
  (global.set $is-new (i32.const 0)))
