;; Drops the handles 1 to 1,000 as what they are not, one after the other.
;; outcome: trap "handle index"
(func $attack
  (local $handle i32)
  (drop (call $mine))
  (loop $again
    (call $cursor.drop (local.tee $handle (i32.add (local.get $handle) (i32.const 1))))
    (br_if $again (i32.lt_u (local.get $handle) (i32.const 1000)))))
