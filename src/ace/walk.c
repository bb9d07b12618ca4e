/* SPDX-License-Identifier: MIT */
/* The learner's structures, value by value. doc/statistics.md says what the names mean. */
#include "ace/walk.h"

#define CELL(value) ((struct hak_cell){ &(value), sizeof(value) })
#define NUMBER(w, s, field) (w)->number((w), #field, CELL((s)->field))
#define ROW(w, key, second, ...)                                              \
	do {                                                                  \
		const struct hak_cell cells[] = { __VA_ARGS__ };              \
		(w)->row((w), (key), (second), cells, sizeof cells / sizeof *cells); \
	} while (0)

static void list(struct hak_walk *w, const char *name, uint32_t *values, uint32_t count)
{
	w->table(w, name);
	for (uint32_t i = 0; i < count; i++)
		ROW(w, i, HAK_WALK_NONE, CELL(values[i]));
	w->end(w);
}

static void sizes(struct hak_walk *w, struct hak_size_step size[HAK_STATIC_CLASSES][HAK_SIZE_STEPS])
{
	w->table(w, "size");
	for (uint32_t c = 0; c < HAK_STATIC_CLASSES; c++)
		for (uint32_t i = 0; i < HAK_SIZE_STEPS; i++)
			ROW(w, c, i, CELL(size[c][i].kib), CELL(size[c][i].most));
	w->end(w);
}

void hak_walk_classes(struct hak_walk *w, struct hak_class classes[HAK_STATIC_CLASSES])
{
	w->table(w, "classes");
	for (uint32_t c = 0; c < HAK_STATIC_CLASSES; c++)
		ROW(w, c, HAK_WALK_NONE, CELL(classes[c].stride), CELL(classes[c].capacity));
	w->end(w);
}

void hak_walk_config(struct hak_walk *w, struct hak_ace_config *config)
{
	NUMBER(w, config, dwell_ms);
	NUMBER(w, config, samples);
	list(w, "dyn", config->dyn, HAK_DYNS);
	NUMBER(w, config, dyn_gain);
	list(w, "wmax", config->wmax, HAK_TIERS);
	NUMBER(w, config, wmax_learn);
	list(w, "target", config->target, HAK_TIERS);
	NUMBER(w, config, cap_min);
	NUMBER(w, config, cap_max);
	NUMBER(w, config, cap_step);
	NUMBER(w, config, cap_budget_kib);
}

void hak_walk_look(struct hak_walk *w, struct hak_look *look)
{
	NUMBER(w, look, ms);
	NUMBER(w, look, live_kib);
	NUMBER(w, look, samples);
	NUMBER(w, look, slots);
	w->table(w, "tier");
	for (uint32_t t = 0; t < HAK_TIERS; t++)
		ROW(w, t, HAK_WALK_NONE, CELL(look->tier_kib[t]), CELL(look->tier_new_kib[t]), CELL(look->tier_fresh[t]),
		    CELL(look->tier_lent[t]), CELL(look->tier_waste_kib[t]));
	w->end(w);
	w->table(w, "class");
	for (uint32_t c = 0; c < HAK_STATIC_CLASSES; c++)
		ROW(w, c, HAK_WALK_NONE, CELL(look->class_kib[c]), CELL(look->class_heaps[c]));
	w->end(w);
	sizes(w, look->size);
	NUMBER(w, look, nodes);
	w->table(w, "node");
	for (uint32_t n = 0; n < HAK_LOOK_NODES; n++)
		ROW(w, n, HAK_WALK_NONE, CELL(look->node[n].node), CELL(look->node[n].live_mib));
	w->end(w);
	w->table(w, "node_class");
	for (uint32_t n = 0; n < HAK_LOOK_NODES; n++)
		for (uint32_t c = 0; c < HAK_STATIC_CLASSES; c++)
			ROW(w, n, c, CELL(look->node[n].class[c].asked_kib), CELL(look->node[n].class[c].made_kib));
	w->end(w);
}

static void walk_plan(struct hak_walk *w, struct hak_plan *plan)
{
	NUMBER(w, plan, number);
	list(w, "dyn", plan->dyn, HAK_DYNS);
	list(w, "wmax", plan->wmax, HAK_TIERS);
	NUMBER(w, plan, nodes);
	w->table(w, "node");
	for (uint32_t n = 0; n < HAK_LOOK_NODES; n++)
		ROW(w, n, HAK_WALK_NONE, CELL(plan->node[n].node));
	w->end(w);
	w->table(w, "keep");
	for (uint32_t n = 0; n < HAK_LOOK_NODES; n++)
		for (uint32_t c = 0; c < HAK_STATIC_CLASSES; c++)
			ROW(w, n, c, CELL(plan->node[n].keep[c]));
	w->end(w);
}

void hak_walk_decision(struct hak_walk *w, struct hak_learner *l)
{
	walk_plan(w, &l->plan);
	w->table(w, "trial");
	for (uint32_t t = 0; t < HAK_TIERS; t++)
		ROW(w, t, HAK_WALK_NONE, CELL(l->trial[t].arm), CELL(l->trial[t].kept), CELL(l->trial[t].kept_score));
	w->end(w);
	w->table(w, "arm");
	for (uint32_t t = 0; t < HAK_TIERS; t++)
		for (uint32_t i = 0; i < HAK_BANDIT_ARMS; i++)
			ROW(w, t, i, CELL(l->trial[t].bandit.plays[i]), CELL(l->trial[t].bandit.sum[i]));
	w->end(w);
}

void hak_walk_learner(struct hak_walk *w, struct hak_learner *l)
{
	hak_walk_decision(w, l);
	NUMBER(w, l, changed_ms);
	NUMBER(w, l, live_kib);
	NUMBER(w, l, samples);
	sizes(w, l->size);
	w->table(w, "peak");
	for (uint32_t c = 0; c < HAK_STATIC_CLASSES; c++)
		ROW(w, c, HAK_WALK_NONE, CELL(l->peak[c].stride), CELL(l->peak[c].kib));
	w->end(w);
	w->table(w, "wish");
	for (uint32_t n = 0; n < HAK_LOOK_NODES; n++)
		ROW(w, n, HAK_WALK_NONE, CELL(l->wish[n].node), CELL(l->wish[n].used));
	w->end(w);
	w->table(w, "wish_class");
	for (uint32_t n = 0; n < HAK_LOOK_NODES; n++)
		for (uint32_t c = 0; c < HAK_STATIC_CLASSES; c++)
			ROW(w, n, c, CELL(l->wish[n].slabs[c]), CELL(l->wish[n].seen[c].asked_kib),
			    CELL(l->wish[n].seen[c].made_kib));
	w->end(w);
}
