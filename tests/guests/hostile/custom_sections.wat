;; Has a section of its own that says it is source lines, and is not.
;; outcome: trap "unreachable"
(@custom ".debug_info" "\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff")
(@custom ".debug_abbrev" "\01\11\01\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff")
(@custom ".debug_line" "\ff\ff\ff\7f\05\00\ff\ff\ff\ff\ff\ff\ff\ff")
(func $attack unreachable)
