; SPDX-License-Identifier: MIT
; The z3 row: recursive functions with quantifiers, for as many steps as rlimit allows; the answer is unknown.
(declare-fun f (Int) Int)
(declare-fun g (Int Int) Int)
(assert (forall ((x Int)) (= (f x) (ite (< x 1) 0 (+ 1 (f (- x 1)))))))
(assert (forall ((x Int) (y Int)) (=> (> x y) (> (g x y) (f x)))))
(assert (exists ((x Int)) (and (> x 40) (< (g x 3) 42) (not (= (f x) x)))))
(check-sat)
