;; Computes longer than its instructions are allowed to, which is before its deadline.
;; limits: fuel = 1000000
;; outcome: limit "`fuel` = 1000000"
(func $attack
  (loop $again (br $again)))
