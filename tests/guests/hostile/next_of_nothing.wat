;; Asks a cursor for no entries.
;; outcome: trap "next asks for 0 entries"
(func $attack
  (call $cursor.next (call $scan-all (call $mine)) (i32.const 0) (i32.const 1) (i32.const 128)))
