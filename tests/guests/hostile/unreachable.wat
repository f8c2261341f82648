;; Traps.
;; outcome: trap "unreachable"
(func $attack unreachable)
