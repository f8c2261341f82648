;; Calls the function at the last index of a table of one.
;; outcome: trap "undefined element"
(table funcref (elem $attack))
(func $attack (call_indirect (i32.const -1)))
