;; Two functions call each other as their last step, for ever: the stack does not grow, and there is no loop.
;; outcome: deadline "`call-deadline`"
(func $ping (return_call $pong))
(func $pong (return_call $ping))
(func $attack (call $ping))
