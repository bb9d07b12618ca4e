/* SPDX-License-Identifier: MIT */
/*
 * What the learner's log holds of each of its structures, and in which order: one walk for log.c,
 * which writes, and for the command, which reads and compares. Pure.
 */
#ifndef HAK_WALK_H
#define HAK_WALK_H

#include <string.h>

#include "ace/decide.h"

#define HAK_WALK_VERSION 1 /* of the log's format */
#define HAK_WALK_NONE UINT32_MAX /* a row has one key */

struct hak_cell {
	void *at;
	unsigned bytes; /* 1, 4 or 8: unsigned */
};

/* What is done with each value. A table's rows come in the order of their keys. */
struct hak_walk {
	void (*number)(struct hak_walk *w, const char *name, struct hak_cell cell);
	void (*table)(struct hak_walk *w, const char *name);
	void (*row)(struct hak_walk *w, uint32_t key, uint32_t second, const struct hak_cell *cells, unsigned count);
	void (*end)(struct hak_walk *w); /* of the table */
};

static inline uint64_t hak_cell_get(struct hak_cell c)
{
	uint64_t v = 0; /* x86-64: the low bytes come first */
	memcpy(&v, c.at, c.bytes);
	return v;
}

static inline void hak_cell_set(struct hak_cell c, uint64_t v)
{
	memcpy(c.at, &v, c.bytes);
}

/* The static classes: without the same ones nothing is decided in the same way. */
void hak_walk_classes(struct hak_walk *w, struct hak_class classes[HAK_STATIC_CLASSES]);
void hak_walk_config(struct hak_walk *w, struct hak_ace_config *config);
void hak_walk_look(struct hak_walk *w, struct hak_look *look);
/* Of a learner: what a decision leaves behind that can be told at once. */
void hak_walk_decision(struct hak_walk *w, struct hak_learner *l);
/* ... and all of it. */
void hak_walk_learner(struct hak_walk *w, struct hak_learner *l);

#endif
