;; Writes 8 MB, and reads them again and again until it has read more than a call may.
;; outcome: limit "`scan-bytes`"
;; limits: scan-bytes = "10MB"
(func $attack
  (local $store i32) (local $key i32)
  (local.set $store (call $mine))
  (loop $more
    (call $put4 (local.get $store) (local.get $key) (i32.const 0) (i32.const 1000))
    (br_if $more (i32.lt_u (local.tee $key (i32.add (local.get $key) (i32.const 1))) (i32.const 8000))))
  (loop $again
    (local.set $key (call $scan-all (local.get $store)))
    (loop $next
      (global.set $heap (i32.const 0x100000))
      (call $cursor.next (local.get $key) (i32.const 100) (i32.const 100000) (i32.const 128))
      (br_if $next (i32.load (i32.const 132))))
    (call $cursor.drop (local.get $key))
    (br $again)))
