;; Sleeps for 584 years.
;; outcome: deadline "in functions of the host"
(func $attack
  (call $pollable.block (call $subscribe-duration (i64.const -1))))
