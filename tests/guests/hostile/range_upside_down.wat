;; Scans and deletes ranges whose start is behind their end, or at it.
;; entries: 1
;; harmless
(func $attack
  (local $cursor i32)
  (call $put4 (call $mine) (i32.const 0x62626262) (i32.const 0) (i32.const 10))
  (memory.fill (i32.const 1024) (i32.const 0x63) (i32.const 4))
  (memory.fill (i32.const 1032) (i32.const 0x61) (i32.const 4))
  (call $store.delete-range (call $mine) (i32.const 1) (i32.const 1024) (i32.const 4) (i32.const 1) (i32.const 1032) (i32.const 4))
  (call $store.delete-range (call $mine) (i32.const 1) (i32.const 1024) (i32.const 4) (i32.const 1) (i32.const 1024) (i32.const 4))
  (call $store.delete-range (call $mine) (i32.const 1) (i32.const 1024) (i32.const 0) (i32.const 1) (i32.const 1024) (i32.const 0))
  (local.set $cursor (call $store.scan (call $mine) (i32.const 1) (i32.const 1024) (i32.const 4) (i32.const 1) (i32.const 1032) (i32.const 4) (i32.const 1) (i32.const 0)))
  (call $cursor.next (local.get $cursor) (i32.const -1) (i32.const -1) (i32.const 128))
  (if (i32.load (i32.const 132)) (then unreachable)))
