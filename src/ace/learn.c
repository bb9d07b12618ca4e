/* SPDX-License-Identifier: MIT */
/* Looks, slots of dynamic classes, and the policy in force. */
#include "ace/learn.h"

#include <string.h>

#include "ace/ace.h"
#include "ace/log.h"
#include "clock.h"
#include "counters.h"
#include "hardened.h"
#include "options.h"
#include "reclaim.h"

#define LOOK_MS 500u /* between two looks */
#define LOOK_LEAST_MS 50u /* between two for which the heap's growth asked */
/* Of new slabs, for which the reclaimer is woken to look: as many sampled sizes as it takes to decide
 * (HAKMEM_ACE_SAMPLES), and an eighth */
#define LOOK_BYTES ((uint64_t)36 << 20)
#define KEEP_SHARE 4u /* of a class that is replaced: the part that may be EMPTY and kept to lend */
#define HEAP_WAIT_NS 1000000u	      /* for a heap's lock, which is held for a batch */

/* under the reclaimer's lock, all of it */
static struct hak_ace_config config;
static struct hak_learner learner;
static struct hak_look look;
static struct hak_policy policies[2]; /* one in force, the other free once every heap was visited */
static uint64_t looked_ms;

/*
 * Dynamic classes. OPEN: requests go to it. CLOSED: they do not, but it may have slabs; when a
 * visit to every heap after that finds none, and no block in a magazine of the class, which another
 * class may have lent, it is FREE for another size.
 */
enum { SLOT_FREE, SLOT_OPEN, SLOT_CLOSED };
static struct {
	uint8_t state;
	uint32_t stride;
} slots[HAK_DYN_SLOTS];

static _Atomic uint64_t made; /* bytes of slabs made since the last look */

void hak_learn_note(size_t bytes)
{
	/* relaxed: a threshold; whoever passes it wakes the reclaimer, once a look */
	uint64_t before = atomic_fetch_add_explicit(&made, bytes, memory_order_relaxed);
	if (hak_unlikely(before < LOOK_BYTES && before + bytes >= LOOK_BYTES))
		hak_reclaim_look();
}

/* ---- looking ---------------------------------------------------------------------- */

/* Adds up all heaps. False: one could not be locked, and may be reading the policy before this
 * one, or have got a slab of a class that was closed. */
static bool visit_heaps(struct hak_heap_figures *all)
{
	bool every = true;
	memset(all, 0, sizeof *all);
	for (uint32_t id = 1; id <= hak_heap_count(); id++)
		every &= hak_heap_figures(hak_heap_by_id(id), all, HEAP_WAIT_NS);
	return every;
}

static uint32_t take(_Atomic uint32_t *figure)
{
	/* relaxed: see hak_ace_noted. Most are 0, and stay unwritten */
	if (!atomic_load_explicit(figure, memory_order_relaxed))
		return 0;
	return atomic_exchange_explicit(figure, 0, memory_order_relaxed);
}

/* The pools with most memory: others' caps stay as they are. */
static void look_at_nodes(void)
{
	look.nodes = 0;
	for (unsigned i = 0; i < HAK_NODES; i++) {
		/* relaxed: a figure */
		uint64_t live = atomic_load_explicit(&hak_nodes[i].live_bytes, memory_order_relaxed);
		if (!live || look.nodes == HAK_LOOK_NODES)
			continue;
		struct hak_look_node *n = &look.node[look.nodes++];
		n->node = i;
		n->live_mib = (uint32_t)(live >> 20);
		for (unsigned c = 0; c < HAK_STATIC_CLASSES; c++) {
			unsigned tier = hak_route_tier(c);
			n->class[c].asked_kib = take(&hak_ace_noted.class[i][c].asked_kib);
			n->class[c].made_kib = take(&hak_ace_noted.class[i][c].made_kib);
			look.tier_kib[tier] += n->class[c].asked_kib;
			look.tier_new_kib[tier] += n->class[c].made_kib;
		}
	}
}

static void look_at_sizes(void)
{
	look.samples = take(&hak_ace_noted.samples);
	for (unsigned c = hak_route_static_class(HAK_DYN_MIN) + 1; look.samples && c < HAK_STATIC_CLASSES; c++)
		for (unsigned i = 0; i < HAK_SIZE_STEPS; i++) {
			look.size[c][i].kib = take(&hak_ace_noted.size[c][i].kib);
			look.size[c][i].most = take(&hak_ace_noted.size[c][i].most);
		}
}

static void look_at_classes(const struct hak_heap_figures *all)
{
	for (unsigned c = 0; c < HAK_CLASSES; c++) {
		if (!all->slabs[c])
			continue;
		unsigned home = hak_route_home(c), tier = hak_route_tier(c);
		uint64_t live = all->out[c] * hak_classes[c].stride;
		look.class_kib[home] += live >> 10;
		look.class_heaps[home] = (uint32_t)hak_max(look.class_heaps[home], all->heaps[c]);
		look.live_kib += live >> 10;
		look.tier_waste_kib[tier] += (uint32_t)(all->nfree[c] * hak_classes[c].stride >> 10);
	}
	for (unsigned t = 0; t < HAK_TIERS; t++) {
		look.tier_fresh[t] = take(&hak_ace_noted.tier_fresh[t]);
		look.tier_lent[t] = take(&hak_ace_noted.tier_lent[t]);
	}
}

/* Closed classes of which nothing is left are free for another size. */
static void look_at_slots(const struct hak_heap_figures *all)
{
	for (unsigned s = 0; s < HAK_DYN_SLOTS; s++) {
		unsigned class = HAK_STATIC_CLASSES + s;
		if (slots[s].state == SLOT_CLOSED && !all->slabs[class] && !all->cached[class])
			slots[s].state = SLOT_FREE;
		look.slots += slots[s].state == SLOT_FREE;
	}
}

/* ---- putting into force ----------------------------------------------------------- */

static void close_others(const uint32_t dyn[HAK_DYNS])
{
	for (unsigned s = 0; s < HAK_DYN_SLOTS; s++) {
		bool wanted = false;
		for (unsigned d = 0; d < HAK_DYNS; d++)
			wanted |= slots[s].state == SLOT_OPEN && slots[s].stride == dyn[d];
		if (slots[s].state == SLOT_OPEN && !wanted) {
			hak_route_close(HAK_STATIC_CLASSES + s);
			slots[s].state = SLOT_CLOSED;
		}
	}
}

static void open_dyn(uint32_t stride)
{
	unsigned to = HAK_DYN_SLOTS;
	for (unsigned s = 0; s < HAK_DYN_SLOTS; s++) {
		if (slots[s].state == SLOT_OPEN && slots[s].stride == stride)
			return;
		if (slots[s].state == SLOT_FREE)
			to = s;
	}
	hak_route_open(HAK_STATIC_CLASSES + to, stride);
	slots[to].state = SLOT_OPEN;
	slots[to].stride = stride;
	hak_count(dyn_opened, 1);
}

static struct hak_policy *next_policy(void)
{
	return hak_policy() == &policies[0] ? &policies[1] : &policies[0];
}

/* The next policy is all zero: at the start nobody has touched its 12 KiB. */
static void publish(const struct hak_plan *plan)
{
	struct hak_policy *p = next_policy();
	memcpy(p->wmax, plan->wmax, sizeof p->wmax);
	for (unsigned i = 0; i < plan->nodes; i++)
		memcpy(p->keep[plan->node[i].node], plan->node[i].keep, sizeof plan->node[i].keep);
	/* what is EMPTY of a class that is being replaced lends before new slabs are made */
	for (unsigned d = 0; d < HAK_DYNS; d++) {
		unsigned home = hak_route_static_class(plan->dyn[d]);
		uint64_t slabs = look.class_kib[home] / KEEP_SHARE / (hak_classes[home].granules * 64u);
		for (unsigned i = 0; plan->dyn[d] && i < HAK_NODES; i++)
			p->keep[i][home] = (uint8_t)hak_min(slabs, UINT8_MAX);
	}
	/* release POLICY: its fields */
	atomic_store_explicit(&hak_policy_now, p, memory_order_release);
}

static void enforce(const struct hak_plan *plan)
{
	close_others(plan->dyn);
	for (unsigned d = 0; d < HAK_DYNS; d++)
		if (plan->dyn[d])
			open_dyn(plan->dyn[d]);
	publish(plan);
}

long hak_learn_look(void)
{
	static struct hak_heap_figures all;
	uint64_t now = hak_now_ms();
	/* relaxed: a threshold */
	bool grown = atomic_load_explicit(&made, memory_order_relaxed) >= LOOK_BYTES;
	uint64_t pause = grown ? LOOK_LEAST_MS : LOOK_MS;
	if (!hak_option_get(HAK_OPT_learn))
		return 0;
	if (!looked_ms && !grown) /* too few samples to decide from, and growth would have to wait for the next look */
		looked_ms = now - LOOK_LEAST_MS;
	if (looked_ms && now - looked_ms < pause) /* growth wakes us once: it is for us to come again */
		return grown ? (long)(looked_ms + pause - now) : 0;
	hak_lock(&hak_reclaim_lock);
	looked_ms = now;
	/* relaxed: what is made from here on is for the next look */
	atomic_store_explicit(&made, 0, memory_order_relaxed);
	/* else what was noted waits for the next look */
	if (visit_heaps(&all)) {
		memset(&look, 0, sizeof look);
		look.ms = now;
		look_at_nodes();
		look_at_sizes();
		look_at_classes(&all);
		look_at_slots(&all);
		hak_ace_log_look(&learner, &config, &look);
		bool changed = hak_learner_decide(&learner, &config, &look);
		hak_ace_log_decision(&learner, changed);
		if (changed) {
			hak_count(policies, 1);
			memset(next_policy(), 0, sizeof *policies);
			enforce(&learner.plan);
		}
	}
	hak_unlock(&hak_reclaim_lock);
	hak_ace_log_write();
	return 0;
}

/* ---- start ------------------------------------------------------------------------ */

static uint32_t option(enum hak_option o)
{
	return (uint32_t)hak_option_get(o);
}

/* A size as a dynamic class may have it; 0: static classes serve it as well. */
static uint32_t dyn_size(enum hak_option o)
{
	uint32_t stride = (uint32_t)hak_align_up(option(o), HAK_MIN_ALIGN);
	return stride && stride == hak_classes[hak_route_static_class(stride)].stride ? 0 : stride;
}

void hak_learn_start(void)
{
	config = (struct hak_ace_config){
		.dwell_ms = option(HAK_OPT_ace_dwell_ms),
		.samples = option(HAK_OPT_ace_samples),
		.dyn = { dyn_size(HAK_OPT_dyn1), dyn_size(HAK_OPT_dyn2) },
		.dyn_gain = option(HAK_OPT_dyn_gain),
		.wmax = { [HAK_TIER_POOL] = option(HAK_OPT_wmax_pool), [HAK_TIER_L25] = option(HAK_OPT_wmax_l25) },
		.wmax_learn = option(HAK_OPT_wmax_learn),
		.target = { option(HAK_OPT_target_hit_tiny), option(HAK_OPT_target_hit_pool), option(HAK_OPT_target_hit_l25) },
		.cap_min = option(HAK_OPT_cap_min),
		.cap_max = option(HAK_OPT_cap_max),
		.cap_step = option(HAK_OPT_cap_step),
		.cap_budget_kib = option(HAK_OPT_cap_budget_kib),
	};
	/* two sizes of one static class would be one after the other in its codes */
	if (config.dyn[0] && config.dyn[1] &&
	    hak_route_static_class(config.dyn[0]) == hak_route_static_class(config.dyn[1]))
		config.dyn[1] = 0;
	/* a hardened heap's blocks are larger than what is asked, and it lends none */
	if (hak_hardened)
		hak_option_values[HAK_OPT_learn] = config.dyn[0] = config.dyn[1] = 0;
	hak_ace_log_start();
	hak_learner_start(&learner, &config);
	enforce(&learner.plan);
}
