/* SPDX-License-Identifier: MIT */
/* The learner: looks, decides (decide.c), and puts into force, on the reclaimer's thread. */
#ifndef HAK_LEARN_H
#define HAK_LEARN_H

#include "base.h"

/* In the constructor: the policy and the dynamic sizes that the options say. */
void hak_learn_start(void);

/* Reclaimer's thread, no lock held: takes a look, if one is due. Otherwise, if the heap grows: in how many
 * milliseconds one will be; else 0. */
long hak_learn_look(void);

/* Slabs were made. Enough of them wake the reclaimer for a look; cheap, callers may hold locks. */
void hak_learn_note(size_t bytes);

#endif
