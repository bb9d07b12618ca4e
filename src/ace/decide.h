/* SPDX-License-Identifier: MIT */
/*
 * What the learner decides, from what it saw. Pure: no clock, lock, memory or other file of the
 * library but the class table, so that the command replays a log to the same decisions.
 *
 *   look (figures of one window) + state  ->  state with a new plan, and whether it changed
 *
 * A plan changes at most once a dwell time, and only after enough samples.
 */
#ifndef HAK_DECIDE_H
#define HAK_DECIDE_H

#include "ace/bandit.h"
#include "route.h"

#define HAK_DYNS 2u	   /* sizes that are served at a time */
#define HAK_SIZE_STEPS 16u /* of a static class's sizes, as the learner tells them apart */
#define HAK_DYN_MIN 1024u  /* dynamic classes are for sizes above */
#define HAK_LOOK_NODES 8u  /* pools whose caps are learnt: those with most memory */

/* ---- what it saw ------------------------------------------------------------------ */

struct hak_size_step {
	uint32_t kib;  /* asked for in sizes of this step: sampled */
	uint32_t most; /* the largest of them; 0: none */
};

struct hak_look_class {
	uint32_t asked_kib; /* that refills took, sampled */
	uint32_t made_kib;  /* in slabs that had to be made for it */
};

struct hak_look_node {
	uint32_t node;
	uint32_t live_mib;
	struct hak_look_class class[HAK_STATIC_CLASSES];
};

struct hak_look {
	uint64_t ms;		/* monotonic */
	uint64_t live_kib;	/* in blocks of slabs */
	uint32_t samples;	/* sizes sampled */
	uint32_t slots;		/* dynamic classes that have no slab */
	uint32_t tier_kib[HAK_TIERS];	  /* refilled */
	uint32_t tier_new_kib[HAK_TIERS]; /* of it, in new slabs */
	uint32_t tier_fresh[HAK_TIERS];   /* of those, slabs in memory that was not resident */
	uint32_t tier_lent[HAK_TIERS];	    /* blocks that larger classes lent, each in a slow path of its own */
	uint32_t tier_waste_kib[HAK_TIERS]; /* free in slabs */
	/* by static class; a dynamic one counts as the static one whose sizes it took */
	uint64_t class_kib[HAK_STATIC_CLASSES];	  /* live */
	uint32_t class_heaps[HAK_STATIC_CLASSES]; /* that have slabs of it */
	struct hak_size_step size[HAK_STATIC_CLASSES][HAK_SIZE_STEPS];
	uint32_t nodes;
	struct hak_look_node node[HAK_LOOK_NODES];
};

/* The step of a size of the class. */
static inline unsigned hak_size_step(unsigned class, size_t bytes)
{
	uint32_t below = class ? hak_classes[class - 1].stride : 0;
	return (unsigned)((bytes - below - 1) * HAK_SIZE_STEPS / (hak_classes[class].stride - below));
}

/* ---- what it decides -------------------------------------------------------------- */

struct hak_plan {
	uint32_t number;	     /* of changes so far */
	uint32_t dyn[HAK_DYNS];	     /* bytes of a block; 0: none */
	uint32_t wmax[HAK_TIERS];    /* percent; 100: nothing is lent */
	uint32_t nodes;
	struct {
		uint32_t node;
		uint8_t keep[HAK_STATIC_CLASSES]; /* EMPTY slabs that a heap keeps beyond the first */
	} node[HAK_LOOK_NODES];
};

/* From the options; immutable. */
struct hak_ace_config {
	uint32_t dwell_ms, samples;
	uint32_t dyn[HAK_DYNS]; /* sizes that the user chose; 0: learnt */
	uint32_t dyn_gain;	/* percent of a class's bytes, from which a dynamic class is opened */
	uint32_t wmax[HAK_TIERS], wmax_learn;
	uint32_t target[HAK_TIERS]; /* percent */
	uint32_t cap_min, cap_max, cap_step, cap_budget_kib;
};

struct hak_learner {
	struct hak_plan plan;
	uint64_t changed_ms; /* when the plan last did; 0: never */
	uint64_t live_kib;   /* at the last look */
	uint32_t samples;    /* since the last change */
	struct hak_size_step size[HAK_STATIC_CLASSES][HAK_SIZE_STEPS]; /* of several windows, older ones count less */
	struct hak_peak {
		uint32_t stride; /* of the class that would serve it; 0: none */
		uint64_t kib;	 /* asked for at it since it was there in the look before */
	} peak[HAK_STATIC_CLASSES];
	struct hak_trial {
		struct hak_bandit bandit;
		uint32_t arm;	     /* on trial, or kept */
		uint32_t kept;	     /* the arm to go back to */
		uint32_t kept_score; /* its reward when it was last played */
	} trial[HAK_TIERS];
	struct hak_wish {
		uint32_t node, used;
		uint8_t slabs[HAK_STATIC_CLASSES];
		struct hak_look_class seen[HAK_STATIC_CLASSES]; /* since its last change */
	} wish[HAK_LOOK_NODES];
};

/* l is all zero: a program that learns nothing never touches most of its 20 KiB. */
void hak_learner_start(struct hak_learner *l, const struct hak_ace_config *config);

/* Takes a window in. True: the plan has changed. */
bool hak_learner_decide(struct hak_learner *l, const struct hak_ace_config *config, const struct hak_look *look);

/* For tests: the score of a tier's window, 0 to HAK_BANDIT_ONE. */
uint32_t hak_learner_score(const struct hak_look *look, unsigned tier);

#endif
