/* SPDX-License-Identifier: MIT */
/* Statistics: summed when read, printed as a table or as JSON. When is record.h's. */
#ifndef HAK_STATS_H
#define HAK_STATS_H

#include "base.h"
#include "hakmem/hakmem.h"

void hak_stats_snapshot(struct hakmem_stats *s);

/* Neither allocates; any thread. What they say stands in doc/statistics.md. */
void hak_stats_table(hakmem_write_fn *write, void *arg);
/* One object, one line. pages: with what is resident and on huge pages, which the kernel
 * must count: it takes as long as /proc/self/smaps. */
void hak_stats_json(hakmem_write_fn *write, void *arg, bool pages);

/* A sink: fd points to an int. */
void hak_stats_to_fd(void *fd, const char *text, size_t bytes);

#endif
