/* SPDX-License-Identifier: MIT */
/*
 * The adaptive cache engine, as slow paths see it: what they note for the learner, and the policy
 * it publishes. The fast path knows neither.
 *
 *   refill  ----- sampled sizes, slabs made ----->  learn.c, on the reclaimer's thread
 *           <---- policy: one acquire load -------
 */
#ifndef HAK_ACE_H
#define HAK_ACE_H

#include "ace/decide.h"
#include "base.h"
#include "heap.h"

/*
 * Immutable once published. It is read under a heap's lock and not kept beyond it, so when each
 * heap's lock has been held once since a newer one was published, nobody reads the old one.
 */
struct hak_policy {
	uint32_t wmax[HAK_TIERS];	 /* percent of its size that a request's block may have */
	uint8_t keep[HAK_NODES][HAK_CLASSES]; /* EMPTY slabs a heap keeps beyond the first */
};

extern const struct hak_policy *_Atomic hak_policy_now;

/* A heap's lock is held. */
static inline const struct hak_policy *hak_policy(void)
{
	/* acquire POLICY: its fields */
	return atomic_load_explicit(&hak_policy_now, memory_order_acquire);
}

/* What refills noted since the learner's last look. Any thread. Relaxed, and no locked instructions:
 * of two threads that note at the same moment one may be lost, which is one sample less. */
struct hak_ace_noted {
	_Atomic uint32_t samples;
	struct {
		_Atomic uint32_t asked_kib, made_kib;
	} class[HAK_NODES][HAK_STATIC_CLASSES];
	struct {
		_Atomic uint32_t kib, most;
	} size[HAK_STATIC_CLASSES][HAK_SIZE_STEPS];
	_Atomic uint32_t tier_fresh[HAK_TIERS]; /* slabs in memory that was not resident */
	_Atomic uint32_t tier_lent[HAK_TIERS];	/* blocks that a larger class lent */
};
extern struct hak_ace_noted hak_ace_noted;

static inline void hak_ace_add(_Atomic uint32_t *to, uint32_t n)
{
	atomic_store_explicit(to, atomic_load_explicit(to, memory_order_relaxed) + n, memory_order_relaxed);
}

/* The same since the start, for the statistics. Any thread. */
struct hak_ace_total {
	_Atomic uint64_t asked_kib, made_kib;
};
extern struct hak_ace_total hak_ace_totals[HAK_STATIC_CLASSES];

/* A size is sampled out of so many bytes of refills: that of the request that made the last of them.
 * A refill of more counts as so many samples. */
#define HAK_ACE_SAMPLE_BYTES (64 << 10)

void hak_ace_sample(struct hak_heap *h, size_t bytes);

/* Own: a request of `bytes` made a refill of n blocks of the class. */
static inline void hak_ace_refilled(struct hak_heap *h, unsigned class, size_t bytes, uint32_t n)
{
	h->sampled += n * hak_classes[class].stride;
	if (hak_unlikely(h->sampled >= HAK_ACE_SAMPLE_BYTES))
		hak_ace_sample(h, bytes);
}

/* h's lock: the heap has got a new slab of the class, from this stage. */
void hak_ace_made(struct hak_heap *h, unsigned class, enum hak_stage stage);

/* h's lock: a larger class lends a block. */
static inline void hak_ace_lent(unsigned class)
{
	if (class < HAK_STATIC_CLASSES)
		hak_ace_add(&hak_ace_noted.tier_lent[hak_route_tier(class)], 1);
}

#endif
