/* SPDX-License-Identifier: MIT */
/* What slow paths note for the learner. */
#include "ace/ace.h"

#include "ace/learn.h"
#include "options.h"

static const struct hak_policy nothing_lent;
const struct hak_policy *_Atomic hak_policy_now = &nothing_lent;
struct hak_ace_noted hak_ace_noted;
struct hak_ace_total hak_ace_totals[HAK_STATIC_CLASSES];

HAK_COLD void hak_ace_sample(struct hak_heap *h, size_t bytes)
{
	struct hak_ace_noted *n = &hak_ace_noted;
	unsigned class = hak_route_static_class(bytes), step;
	uint32_t kib = h->sampled >> 10;
	h->sampled = 0;
	/* relaxed: figures */
	atomic_fetch_add_explicit(&hak_ace_totals[class].asked_kib, kib, memory_order_relaxed);
	if (!hak_option_get(HAK_OPT_learn))
		return;
	hak_ace_add(&n->samples, kib / (HAK_ACE_SAMPLE_BYTES >> 10));
	hak_ace_add(&n->class[h->node][class].asked_kib, kib);
	if (bytes <= HAK_DYN_MIN)
		return;
	step = hak_size_step(class, bytes);
	hak_ace_add(&n->size[class][step].kib, kib);
	if (atomic_load_explicit(&n->size[class][step].most, memory_order_relaxed) < bytes)
		atomic_store_explicit(&n->size[class][step].most, (uint32_t)bytes, memory_order_relaxed);
}

void hak_ace_made(struct hak_heap *h, unsigned class, enum hak_stage stage)
{
	unsigned home = hak_route_home(class);
	size_t bytes = hak_classes[class].granules * HAK_GRANULE;
	atomic_fetch_add_explicit(&hak_ace_totals[home].made_kib, bytes >> 10, memory_order_relaxed); /* a figure */
	hak_ace_add(&hak_ace_noted.class[h->node][home].made_kib, (uint32_t)(bytes >> 10));
	if (stage == HAK_STAGE_UNUSED || stage == HAK_STAGE_NEW)
		hak_ace_add(&hak_ace_noted.tier_fresh[hak_route_tier(home)], (uint32_t)(bytes >> HAK_GRANULE_SHIFT));
	hak_learn_note(bytes);
}
