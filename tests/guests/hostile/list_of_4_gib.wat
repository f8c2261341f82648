;; Gets a key of 4 GiB less one byte.
;; outcome: trap "out of bounds"
(func $attack
  (call $store.get (call $mine) (i32.const 1024) (i32.const -1) (i32.const 128)))
