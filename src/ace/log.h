/* SPDX-License-Identifier: MIT */
/*
 * The learner's log (HAKMEM_ACE_LOG): each look and what was decided from it, as JSON lines
 * (doc/statistics.md), so that `hakmem replay' decides again. Without the option, all of it does
 * nothing.
 */
#ifndef HAK_ACE_LOG_H
#define HAK_ACE_LOG_H

#include "ace/decide.h"

/* In the constructor. */
void hak_ace_log_start(void);

/* Reclaimer's thread, before the decision: notes what it is made from. */
void hak_ace_log_look(struct hak_learner *l, struct hak_ace_config *config, struct hak_look *look);

/* ... and after it. */
void hak_ace_log_decision(struct hak_learner *l, bool changed);

/* Appends what was noted to the file. The disk may be slow: no lock held. An error is said once and
 * ends the log. */
void hak_ace_log_write(void);

#endif
