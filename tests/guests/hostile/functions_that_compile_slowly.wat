;; 60,000 functions, each of which takes a while to compile: more time than a component may take.
;; limits: compile-time = "1s"
;; refused: "compile-time"
{{60000:(func (param i32) (result i32) local.get 0 i32.const # i32.mul local.get 0 i32.xor local.get 0 i32.div_u local.get 0 i32.rem_s f64.convert_i32_u f64.sqrt i32.trunc_sat_f64_u)
}}
(func $attack)
