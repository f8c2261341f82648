;; Asks the host to stop its task, which the job has not granted.
;; outcome: trap "request-stop is not granted"
(func $attack
  (call $request-stop (i32.const 32) (i32.const 3)))
