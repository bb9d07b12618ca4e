/* SPDX-License-Identifier: MIT */
/* Statistics: summed when read, printed at exit as a table or as JSON. */
#ifndef HAK_STATS_H
#define HAK_STATS_H

#include "base.h"

struct hakmem_stats;
void hak_stats_snapshot(struct hakmem_stats *s);

/* Notes the HAKMEM_STATS option; opens nothing yet. */
void hak_stats_start(void);
/* Writes what was asked for. */
void hak_stats_exit(void);
/* The table, for malloc_stats. */
void hak_stats_table(int fd);

#endif
