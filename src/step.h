/* SPDX-License-Identifier: MIT */
/*
 * The steps of the protocols that models/ explores, by their names there: HAK_STEP(P3) stands
 * before the access that is step P3 of a model. models/run.sh fails if a step of a model is not
 * in the code, or the reverse.
 *
 * With --enable-perturb a thread may stop at each of them for a moment, at random, so that
 * others come in between where they hardly ever do. Otherwise it is nothing.
 */
#ifndef HAK_STEP_H
#define HAK_STEP_H

#include "base.h"

#if HAK_PERTURB
void hak_step(void);
#define HAK_STEP(name) hak_step()
#else
#define HAK_STEP(name) ((void)0)
#endif

#endif
