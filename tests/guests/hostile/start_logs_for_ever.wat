;; Logs escape sequences for ever while the instance is being made.
;; refused: "`call-deadline`"
(func $attack)
;; in the component:
(import "wasi:logging/logging@0.1.0-draft" (instance $logging
  (type $levels (enum "trace" "debug" "info" "warn" "error" "critical"))
  (export "level" (type $level (eq $levels)))
  (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))
(core module $text
  (memory (export "memory") 1)
  (data (i32.const 16) "\1b[2J\1b[31mred\07\0a"))
(core instance $memory (instantiate $text))
(core func $log (canon lower (func $logging "log") (memory (core memory $memory "memory"))))
(core module $logger
  (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
  (func $begin
    (loop $again
      (call $log (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 14))
      (br $again)))
  (start $begin))
(core instance $begun (instantiate $logger (with "host" (instance (export "log" (func $log))))))
