;; Waits until the other tasks have written, looks for their keys in every way, and deletes all that there is.
;; entries: 3
;; harmless
;; Every other task keeps a key of its own.
(func $tick
  (if (call $partition)
    (then (call $put4 (call $mine) (i32.const -1) (i32.const 0) (i32.const 10)))))

;; Traps if there is anything from `start` to `end`.
(func $look (param $is i32) (param $start i32) (param $length i32) (param $to i32) (param $end i32) (param $end-length i32) (param $down i32)
  (local $cursor i32)
  (local.set $cursor (call $store.scan (call $mine) (local.get $is) (local.get $start) (local.get $length)
    (local.get $to) (local.get $end) (local.get $end-length) (local.get $down) (i32.const 0)))
  (call $cursor.next (local.get $cursor) (i32.const 1000) (i32.const 1000000) (i32.const 128))
  (if (i32.load (i32.const 132)) (then unreachable))
  (call $cursor.drop (local.get $cursor)))

(func $attack
  (local $byte i32) (local $down i32)
  (call $pollable.block (call $subscribe-duration (i64.const 100_000_000)))
  ;; From an empty key, without bounds, up and down.
  (call $look (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
  (call $look (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1))
  (call $look (i32.const 1) (i32.const 1024) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1))
  ;; From 0xFF repeated, which is behind every other key.
  (memory.fill (i32.const 1024) (i32.const 255) (i32.const 8192))
  (call $look (i32.const 1) (i32.const 1024) (i32.const 8192) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
  (call $look (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1024) (i32.const 8192) (i32.const 1))
  ;; From every byte, and from the number of every task in every order of bytes.
  (loop $again
    (i64.store (i32.const 1024) (i64.const 0))
    (i32.store8 (i32.const 1024) (local.get $byte))
    (call $look (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
    (i32.store8 (i32.const 1024) (i32.const 0))
    (i32.store8 (i32.const 1027) (local.get $byte))
    (call $look (i32.const 1) (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1))
    (call $look (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1024) (i32.const 8) (i32.const 0))
    (br_if $again (i32.lt_u (local.tee $byte (i32.add (local.get $byte) (i32.const 1))) (i32.const 256))))
  (call $store.delete-range (call $mine) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
  (call $store.delete-range (call $mine) (i32.const 1) (i32.const 1024) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
  (call $store.delete (call $mine) (i32.const 1024) (i32.const 0)))
