;; Types that have the one before twice: the last has 2^29 fields.
;; refused: "it does not compile"
(component
  (type $t0 (tuple u8 u8))
  (type $t1 (tuple $t0 $t0)) (type $t2 (tuple $t1 $t1)) (type $t3 (tuple $t2 $t2)) (type $t4 (tuple $t3 $t3))
  (type $t5 (tuple $t4 $t4)) (type $t6 (tuple $t5 $t5)) (type $t7 (tuple $t6 $t6)) (type $t8 (tuple $t7 $t7))
  (type $t9 (tuple $t8 $t8)) (type $ta (tuple $t9 $t9)) (type $tb (tuple $ta $ta)) (type $tc (tuple $tb $tb))
  (type $td (tuple $tc $tc)) (type $te (tuple $td $td)) (type $tf (tuple $te $te)) (type $tg (tuple $tf $tf))
  (type $th (tuple $tg $tg)) (type $ti (tuple $th $th)) (type $tj (tuple $ti $ti)) (type $tk (tuple $tj $tj))
  (type $tl (tuple $tk $tk)) (type $tm (tuple $tl $tl)) (type $tn (tuple $tm $tm)) (type $to (tuple $tn $tn))
  (type $tp (tuple $to $to)) (type $tq (tuple $tp $tp)) (type $tr (tuple $tq $tq)) (type $ts (tuple $tr $tr))
  (type $f (func (param "all" $ts))))
