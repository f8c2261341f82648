;; Its functions have names of a megabyte and of escape sequences, which are in the backtrace of the trap.
;; outcome: trap "unreachable"
(func $inner (@name "\1b[2J\1b]0;mine\07\u{202e}") unreachable)
(func $attack (@name "{{100000:long name }}")
  (call $inner))
