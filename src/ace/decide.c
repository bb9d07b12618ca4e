/* SPDX-License-Identifier: MIT */
/* The learner's decisions: dynamic sizes, bounds on rounding, and caps. */
#include "ace/decide.h"

#include <string.h>

#include "ace/share.h"

#define PEAK_SHARE 75u	  /* percent of a class's bytes that a dynamic one must take off it */
#define PEAK_KIB 4096u	  /* live bytes of a class that are worth one ... */
#define PEAK_SLABS 16u	  /* ... and so many of the new slabs in each heap that has the class ... */
#define PEAK_SLABS_GROWING 4u /* ... of a heap that will have more of them */
#define PEAK_OF_ALL 200u  /* ... and what it saves must be this part of the whole heap at least */
#define PEAK_STEPS 3u	  /* of a class's 16: the width of a peak */
#define PEAK_TURNS 2u	  /* as often what lives of a class is asked for at a peak until that is believed */
#define PEAK_ALIGN 64u	  /* a dynamic class's blocks share no cache line */
#define BETTER 150u	  /* percent of what the one that has to go for it saves that a new size must save */
#define MISS_LEAST 50u	  /* a tier of which less than this part comes from new slabs needs no lending */
#define GROWTH 16u	  /* a heap grows that has become this part of it larger since the last look */
#define SURE 2u		  /* percent above the target from which caps sink */
#define AGE_PLAYS 64u

/* ---- dynamic sizes ---------------------------------------------------------------- */

struct peak {
	uint32_t stride; /* 0: there is none */
	uint64_t gain_kib; /* of the class's live bytes */
};

static uint32_t cost_of(const struct hak_class *c)
{
	return (c->mask + 1) / c->capacity;
}

static uint64_t asked_of(const struct hak_size_step step[HAK_SIZE_STEPS])
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < HAK_SIZE_STEPS; i++)
		sum += step[i].kib;
	return sum;
}

/* ... of it, in sizes of a peak below `stride`. A peak is narrow: what is spread over the class's sizes may
 * move on. */
static uint64_t fitting(const struct hak_size_step step[HAK_SIZE_STEPS], unsigned class, uint32_t stride)
{
	uint64_t sum = 0;
	unsigned top = hak_size_step(class, stride);
	for (unsigned i = 0; i < HAK_SIZE_STEPS; i++)
		sum += step[i].most <= stride && i + PEAK_STEPS > top ? step[i].kib : 0;
	return sum;
}

/* What a dynamic class of blocks of `stride` bytes would save of the static one's live bytes. */
static uint64_t gain_of(const struct hak_learner *l, const struct hak_look *look, unsigned class, uint32_t stride)
{
	uint64_t all = asked_of(l->size[class]), fit = fitting(l->size[class], class, stride);
	struct hak_class shape = hak_route_fit(stride);
	uint64_t old = cost_of(&hak_classes[class]), new = cost_of(&shape);
	if (!all || fit * 100 < all * PEAK_SHARE || new >= old)
		return 0;
	return look->class_kib[class] * fit / all * (old - new) / old;
}

static struct peak find_peak(const struct hak_learner *l, const struct hak_look *look, unsigned class)
{
	struct peak best = { 0, 0 };
	for (unsigned i = 0; i < HAK_SIZE_STEPS; i++) {
		uint32_t stride = (uint32_t)hak_align_up(l->size[class][i].most, PEAK_ALIGN);
		/* a wide step may begin above the class's last multiple of a cache line */
		if (!stride || stride >= hak_classes[class].stride)
			continue;
		uint64_t gain = gain_of(l, look, class, stride);
		if (gain > best.gain_kib)
			best = (struct peak){ stride, gain };
	}
	return best;
}

static bool is_worth(const struct hak_ace_config *config, const struct hak_look *look, unsigned class, uint32_t stride,
		     uint64_t gain, unsigned slabs, unsigned margin)
{
	uint64_t slab_kib = (hak_route_fit(stride).mask + 1) >> 10;
	return look->class_kib[class] * margin >= PEAK_KIB &&
	       look->class_kib[class] * margin >= slab_kib * slabs * look->class_heaps[class] &&
	       gain * 100 * margin >= look->class_kib[class] * config->dyn_gain &&
	       gain * PEAK_OF_ALL * margin >= look->live_kib;
}

/*
 * What was asked for at each class's peak since it is where it is. Sizes that drift have a peak in each window,
 * each elsewhere, and a class for it would be left again with its slabs full of holes. The window
 * in which a peak is first seen may hold several.
 */
static void follow_peaks(struct hak_learner *l, const struct hak_look *look)
{
	for (unsigned c = hak_route_static_class(HAK_DYN_MIN) + 1; c < HAK_STATIC_CLASSES; c++) {
		if (!asked_of(look->size[c]))
			continue;
		struct hak_peak *p = &l->peak[c];
		uint32_t stride = find_peak(l, look, c).stride;
		if (p->stride != stride)
			*p = (struct hak_peak){ stride, 0 };
		else if (stride)
			p->kib += fitting(look->size[c], c, stride);
	}
}

/* True if a size of the plan changed. A size that serves stays unless another saves half as much
 * again, and as long as it is worth half of what a new one must be. */
static bool decide_dyn(struct hak_learner *l, const struct hak_ace_config *config, const struct hak_look *look, bool grows)
{
	uint32_t *dyn = l->plan.dyn, slots = look->slots, slabs = grows ? PEAK_SLABS_GROWING : PEAK_SLABS;
	uint64_t gain[HAK_DYNS] = { 0 };
	bool changed = false;
	for (unsigned d = 0; d < HAK_DYNS; d++) {
		unsigned home = dyn[d] ? hak_route_static_class(dyn[d]) : 0;
		gain[d] = dyn[d] ? gain_of(l, look, home, dyn[d]) : 0;
		if (config->dyn[d]) {
			gain[d] = UINT64_MAX;
		} else if (dyn[d] && !is_worth(config, look, home, dyn[d], gain[d], slabs, 2)) {
			dyn[d] = 0;
			gain[d] = 0;
			changed = true;
		}
	}
	for (unsigned c = hak_route_static_class(HAK_DYN_MIN) + 1; c < HAK_STATIC_CLASSES; c++) {
		struct peak peak = find_peak(l, look, c);
		unsigned to = 0;
		bool same = false;
		if (!peak.stride || !is_worth(config, look, c, peak.stride, peak.gain_kib, slabs, 1) || !slots)
			continue;
		/* what a heap grows by stays, and there may be no better time */
		if (!grows && l->peak[c].kib < look->class_kib[c] * PEAK_TURNS)
			continue;
		/* in place of the one of the same class, else of the one that saves least */
		for (unsigned d = 0; d < HAK_DYNS && !same; d++) {
			same = dyn[d] && hak_route_static_class(dyn[d]) == c;
			if (same || gain[d] < gain[to])
				to = d;
		}
		if (dyn[to] == peak.stride || gain[to] == UINT64_MAX || (gain[to] && peak.gain_kib * 100 <= gain[to] * BETTER))
			continue;
		dyn[to] = peak.stride;
		gain[to] = peak.gain_kib;
		slots--;
		changed = true;
	}
	return changed;
}

static void remember_sizes(struct hak_learner *l, const struct hak_look *look)
{
	for (unsigned c = 0; c < HAK_STATIC_CLASSES; c++) {
		uint64_t asked = asked_of(look->size[c]);
		/* a class that rests is remembered as it was */
		for (unsigned i = 0; asked && i < HAK_SIZE_STEPS; i++) {
			struct hak_size_step *s = &l->size[c][i];
			const struct hak_size_step *n = &look->size[c][i];
			s->kib = s->kib / 2 + n->kib;
			s->most = s->kib ? (uint32_t)hak_max(s->most, n->most) : 0;
		}
	}
}

/* ---- W_MAX ------------------------------------------------------------------------ */

static const uint32_t arms[HAK_BANDIT_ARMS] = { 100, 115, 130, 160 }; /* percent */

/* The one that a tier starts with. */
static uint32_t first_arm(const struct hak_ace_config *config, unsigned tier)
{
	uint32_t arm = 0;
	while (arm + 1 < HAK_BANDIT_ARMS && arms[arm + 1] <= config->wmax[tier])
		arm++;
	return arm;
}

/* The bound that was chosen by name stands in its arm's place: to keep the arm must not change it. */
static uint32_t bound_of(const struct hak_ace_config *config, unsigned tier, uint32_t arm)
{
	return arm == first_arm(config, tier) ? config->wmax[tier] : arms[arm];
}

/* hits - misses - 2 x fresh memory - 0.5 x wasted MiB, in granules of what refills took, less 1 for
 * each block that was lent, as a share of what they took: -1 to 1, as 0 to ONE. */
uint32_t hak_learner_score(const struct hak_look *look, unsigned tier)
{
	int64_t asked = look->tier_kib[tier] / 64, made = look->tier_new_kib[tier] / 64;
	int64_t score = asked - 2 * made - 2 * (int64_t)look->tier_fresh[tier] - look->tier_lent[tier] -
			look->tier_waste_kib[tier] / 2048;
	if (score <= -asked)
		return 0;
	return (uint32_t)((score + asked) * (int64_t)HAK_BANDIT_ONE / (2 * asked));
}

/* A new bound is a canary: kept if its window scores no worse than the last one of the bound before. */
static bool decide_wmax(struct hak_learner *l, const struct hak_ace_config *config, const struct hak_look *look,
			unsigned tier)
{
	struct hak_trial *t = &l->trial[tier];
	uint32_t arm = t->arm;
	if (!config->wmax_learn || look->tier_kib[tier] / 64 < config->samples ||
	    (arm == t->kept && look->tier_new_kib[tier] < look->tier_kib[tier] / MISS_LEAST))
		return false;
	uint32_t score = hak_learner_score(look, tier), plays = 0;
	hak_bandit_reward(&t->bandit, arm, score);
	for (unsigned i = 0; i < t->bandit.arms; i++)
		plays += t->bandit.plays[i];
	if (plays >= AGE_PLAYS)
		hak_bandit_age(&t->bandit);
	if (arm == t->kept)
		t->arm = hak_bandit_choose(&t->bandit);
	else if (score < t->kept_score)
		t->arm = t->kept;
	if (arm == t->kept || score >= t->kept_score) {
		t->kept = arm;
		t->kept_score = score;
	}
	l->plan.wmax[tier] = bound_of(config, tier, t->arm);
	return t->arm != arm;
}

/* ---- caps ------------------------------------------------------------------------- */

static struct hak_wish *wish_of(struct hak_learner *l, uint32_t node)
{
	struct hak_wish *w = l->wish;
	for (unsigned i = 0; i < HAK_LOOK_NODES; i++) {
		if (l->wish[i].used && l->wish[i].node == node)
			return &l->wish[i];
		if (w->used)
			w = &l->wish[i];
	}
	memset(w, 0, sizeof *w);
	w->node = node;
	w->used = 1;
	return w;
}

/* Steps a class's wish towards its target of hits, once there are enough samples. */
static void step_wish(const struct hak_ace_config *config, struct hak_wish *w, unsigned class)
{
	struct hak_look_class *seen = &w->seen[class];
	uint32_t slabs = w->slabs[class], target = config->target[hak_route_tier(class)];
	if ((uint64_t)seen->asked_kib < (uint64_t)config->samples * 64)
		return;
	uint64_t hits = seen->made_kib >= seen->asked_kib ? 0 : 100 - (uint64_t)seen->made_kib * 100 / seen->asked_kib;
	if (hits < target)
		slabs = (uint32_t)hak_min(slabs + config->cap_step, config->cap_max - 1);
	else if (hits >= target + SURE && slabs)
		slabs--;
	w->slabs[class] = (uint8_t)hak_max(slabs, config->cap_min - 1);
	*seen = (struct hak_look_class){ 0, 0 };
}

static bool decide_caps(struct hak_learner *l, const struct hak_ace_config *config, const struct hak_look *look)
{
	struct hak_plan *plan = &l->plan;
	struct hak_plan before = *plan;
	plan->nodes = look->nodes;
	for (unsigned i = 0; i < look->nodes; i++) {
		const struct hak_look_node *n = &look->node[i];
		struct hak_wish *w = wish_of(l, n->node);
		uint64_t want[HAK_STATIC_CLASSES];
		for (unsigned c = 0; c < HAK_STATIC_CLASSES; c++) {
			w->seen[c].asked_kib += n->class[c].asked_kib;
			w->seen[c].made_kib += n->class[c].made_kib;
			step_wish(config, w, c);
			want[c] = (uint64_t)w->slabs[c] * hak_classes[c].granules * 64;
		}
		/* what heaps may keep EMPTY costs at most a 64th of what lives */
		uint64_t budget = hak_min(config->cap_budget_kib, (size_t)n->live_mib * 1024 / 64);
		uint64_t level = hak_share_level(want, HAK_STATIC_CLASSES, budget);
		plan->node[i].node = n->node;
		for (unsigned c = 0; c < HAK_STATIC_CLASSES; c++)
			plan->node[i].keep[c] = (uint8_t)(hak_min(want[c], level) / (hak_classes[c].granules * 64u));
	}
	return memcmp(&before, plan, sizeof before) != 0;
}

/* ----------------------------------------------------------------------------------- */

void hak_learner_start(struct hak_learner *l, const struct hak_ace_config *config)
{
	for (unsigned d = 0; d < HAK_DYNS; d++)
		l->plan.dyn[d] = config->dyn[d];
	for (unsigned t = 0; t < HAK_TIERS; t++) {
		l->plan.wmax[t] = config->wmax[t];
		struct hak_trial *trial = &l->trial[t];
		trial->bandit.arms = HAK_BANDIT_ARMS;
		trial->arm = trial->kept = first_arm(config, t);
	}
}

/* What had to be made since the last look was mostly for more blocks: no bound on lending and no cap would have
 * spared it. */
static bool is_growing(const struct hak_learner *l, const struct hak_look *look)
{
	uint64_t more = look->live_kib > l->live_kib ? look->live_kib - l->live_kib : 0, made = 0;
	for (unsigned t = 0; t < HAK_TIERS; t++)
		made += look->tier_new_kib[t];
	return more * GROWTH > look->live_kib && more * 2 >= made;
}

bool hak_learner_decide(struct hak_learner *l, const struct hak_ace_config *config, const struct hak_look *look)
{
	bool grows = is_growing(l, look);
	l->live_kib = look->live_kib;
	remember_sizes(l, look);
	follow_peaks(l, look);
	l->samples += look->samples;
	if ((l->changed_ms && look->ms - l->changed_ms < config->dwell_ms) || l->samples < config->samples)
		return false;
	bool changed = decide_dyn(l, config, look, grows);
	if (!grows) {
		changed |= decide_wmax(l, config, look, HAK_TIER_POOL);
		changed |= decide_wmax(l, config, look, HAK_TIER_L25);
		changed |= decide_caps(l, config, look);
	}
	l->samples = 0;
	if (changed) {
		l->changed_ms = look->ms;
		l->plan.number++;
	}
	return changed;
}
