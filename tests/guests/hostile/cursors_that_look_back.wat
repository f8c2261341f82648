;; Begins a scan, changes every entry beneath it, and traps if the scan shows any of that.
;; harmless
(func $attack
  (local $store i32) (local $key i32) (local $cursor i32)
  (local.set $store (call $mine))
  (loop $more
    (call $put4 (local.get $store) (local.get $key) (i32.const 32) (i32.const 3))
    (br_if $more (i32.lt_u (local.tee $key (i32.add (local.get $key) (i32.const 1))) (i32.const 100))))
  (local.set $cursor (call $scan-all (local.get $store)))
  (local.set $key (i32.const 0))
  (loop $change
    (call $put4 (local.get $store) (local.get $key) (i32.const 48) (i32.const 4))
    (br_if $change (i32.lt_u (local.tee $key (i32.add (local.get $key) (i32.const 1))) (i32.const 200))))
  (call $store.delete-range (local.get $store) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
  (call $cursor.next (local.get $cursor) (i32.const 1000) (i32.const 100000) (i32.const 128))
  ;; 100 keys, and values of three bytes.
  (if (i32.ne (i32.load (i32.const 132)) (i32.const 400)) (then unreachable))
  (if (i32.ne (i32.load (i32.const 164)) (i32.const 300)) (then unreachable)))
