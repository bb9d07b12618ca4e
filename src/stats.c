/* SPDX-License-Identifier: MIT */
/*
 * Snapshot, table and JSON. Printing uses a fixed buffer on the stack and write(2):
 * it runs in destructors and must not allocate.
 */
#include "stats.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "counters.h"
#include "die.h"
#include "hakmem/hakmem.h"
#include "heap.h"
#include "init.h"
#include "numa/node.h"
#include "options.h"
#include "reclaim.h"
#include "sys/sys.h"

#define TEXT_BYTES 32768
#define PATH_BYTES 512
#define LOCK_TRIES 1000

struct hak_counters hak_counters;

static const char *const stage_names[HAK_STAGES] = { "own", "near", "adopted", "empty", "unused", "new" };

struct totals {
	struct hakmem_stats s;
	struct {
#define COUNTER(name, help) uint64_t name;
#include "counters.def"
#undef COUNTER
	} c; /* read once, so that sums and lines agree */
	struct {
#define X(name) uint64_t name;
		HAK_HEAP_COUNTERS(X)
#undef X
	} h; /* over all heaps */
	uint64_t live_tier[HAK_TIERS];
	uint64_t slab_mapped;
	uint64_t live_node[HAK_NODES], remote_node[HAK_NODES];
};

static void add_heap(struct totals *t, const struct hak_heap *h)
{
	for (unsigned c = 0; c < HAK_CLASSES; c++) {
		const struct hak_heap_class *k = &h->classes[c];
		uint64_t stride = hak_classes[c].stride;
		uint64_t cached = hak_heap_cached(h, c);
		uint64_t out = (uint64_t)k->slabs * hak_classes[c].capacity - k->nfree;
		t->s.cached += cached * stride;
		if (out > cached) {
			t->s.live += (out - cached) * stride;
			t->live_tier[hak_route_tier(c)] += (out - cached) * stride;
			t->live_node[h->node] += (out - cached) * stride;
		}
	}
	for (int i = 0; i < HAK_STAGES; i++)
		t->s.stages[i] += h->stages[i];
	t->remote_node[h->node] += h->remote_in;
#define X(name) t->h.name += h->name;
	HAK_HEAP_COUNTERS(X)
#undef X
}

static void collect(struct totals *t)
{
	hak_fork_check();
	memset(t, 0, sizeof *t);
	for (uint32_t id = 1; id <= hak_heap_count(); id++) {
		struct hak_heap *h = hak_heap_by_id(id);
		if (h->abandoned) { /* its lock is held for ever, and nobody changes it */
			add_heap(t, h);
			continue;
		}
		/* its figures belong together only under its lock. One that stays busy is left
		 * out: its holder may be this very thread, under a signal's handler */
		for (int tries = 0; tries < LOCK_TRIES; tries++) {
			if (hak_trylock(&h->lock)) {
				add_heap(t, h);
				hak_unlock(&h->lock);
				break;
			}
			sched_yield();
		}
	}
#define COUNTER(name, help) t->c.name = hak_counted(name);
#include "counters.def"
#undef COUNTER
	for (unsigned i = 0; i < HAK_NODES; i++)
		t->slab_mapped += atomic_load_explicit(&hak_nodes[i].mapped_bytes, memory_order_relaxed);
	t->live_tier[HAK_TIER_L25] += t->c.run_live;
	t->live_tier[HAK_TIER_HUGE] = t->c.span_live + t->c.own_mapped;
	t->s.size = sizeof t->s;
	t->s.version = 1;
	t->s.metadata = t->c.metadata;
	t->s.mapped = t->slab_mapped + t->c.span_mapped + t->c.own_mapped + t->s.metadata;
	t->s.live += t->c.run_live + t->live_tier[HAK_TIER_HUGE];
	t->s.released = t->c.released;
	t->s.remote_frees = t->h.remote_in;
	t->s.heaps = hak_heap_count();
	t->s.foreign_frees = t->c.foreign_frees;
	t->s.failed = t->c.failed;
}

void hak_stats_snapshot(struct hakmem_stats *s)
{
	struct totals t;
	collect(&t);
	*s = t.s;
}

/* ---- resident and huge bytes of our mappings, from smaps --------------------------- */

struct resident {
	uint64_t node_rss[HAK_NODES], node_huge[HAK_NODES];
	uint64_t span_rss, span_huge;
	struct hak_arena *arena; /* of the mapping whose lines are read */
};

static uint64_t number(const char *s, int base)
{
	uint64_t v = 0;
	while (*s == ' ')
		s++;
	for (;; s++) {
		int d = *s >= '0' && *s <= '9' ? *s - '0' : *s >= 'a' && *s <= 'f' ? *s - 'a' + 10 : 99;
		if (d >= base)
			return v;
		v = v * (uint64_t)base + (uint64_t)d;
	}
}

static bool smaps_line(const char *line, void *arg)
{
	struct resident *r = arg;
	struct hak_arena *a = r->arena;
	if ((line[0] >= '0' && line[0] <= '9') || (line[0] >= 'a' && line[0] <= 'f')) {
		r->arena = hak_arena_of((void *)(uintptr_t)number(line, 16));
		return false;
	}
	if (!a)
		return false;
	bool spans = a->kind == HAK_ARENA_SPANS;
	if (!strncmp(line, "Rss:", 4))
		*(spans ? &r->span_rss : &r->node_rss[a->node]) += number(line + 4, 10) * 1024;
	else if (!strncmp(line, "AnonHugePages:", 14))
		*(spans ? &r->span_huge : &r->node_huge[a->node]) += number(line + 14, 10) * 1024;
	return false;
}

static void read_resident(struct resident *r)
{
	memset(r, 0, sizeof *r);
	/* without /proc the figures stay 0 */
	hak_sys_each_line("/proc/self/smaps", smaps_line, r);
}

static const char *engine_bind(void)
{
	return hak_counted(binds) ? "bind" : "first-touch";
}

static const char *engine_reclaim(void)
{
	return hak_option_get(HAK_OPT_reclaim) ? "loop" : "off";
}

/* ---- table ----------------------------------------------------------------------- */

static void row(struct hak_text *t, const char *name, uint64_t v, const char *unit)
{
	char digits[24];
	struct hak_text d = { digits, 0, sizeof digits };
	hak_text_u64(&d, v);
	hak_text_str(t, "  ");
	hak_text_str(t, name);
	for (size_t i = strlen(name) + d.len; i < 40; i++)
		hak_text_str(t, " ");
	digits[d.len < sizeof digits ? d.len : sizeof digits - 1] = 0;
	hak_text_str(t, digits);
	hak_text_str(t, unit);
	hak_text_str(t, "\n");
}

#define KIB(bytes) ((bytes) / 1024), " KiB"

void hak_stats_table(int fd)
{
	static const char *const tiers[HAK_TIERS] = { "tiny live", "pool live", "l25 live", "huge live" };
	char buf[4096];
	struct hak_text t = { buf, 0, sizeof buf };
	struct totals s;
	struct resident r;
	collect(&s);
	read_resident(&r);
	hak_text_str(&t, "hakmem " HAKMEM_VERSION " statistics\n\nmapped memory\n");
	row(&t, "slabs and runs", KIB(s.slab_mapped));
	row(&t, "span arenas", KIB(s.c.span_mapped));
	row(&t, "own mappings", KIB(s.c.own_mapped));
	row(&t, "metadata", KIB(s.s.metadata));
	row(&t, "total mapped", KIB(s.s.mapped));
	hak_text_str(&t, "\nuse\n");
	for (int i = 0; i < HAK_TIERS; i++)
		row(&t, tiers[i], KIB(s.live_tier[i]));
	row(&t, "cached in magazines", KIB(s.s.cached));
	row(&t, "given back", KIB(s.s.released));
	hak_text_str(&t, "\nevents\n");
	row(&t, "heaps", s.s.heaps, "");
	row(&t, "refills", s.h.refills, "");
	row(&t, "drains", s.h.drains, "");
	row(&t, "slab requests", s.h.slab_requests, "");
	for (int i = 0; i < HAK_STAGES; i++) {
		char name[32];
		struct hak_text n = { name, 0, sizeof name - 1 };
		hak_text_str(&n, "  stage ");
		hak_text_str(&n, stage_names[i]);
		name[n.len] = 0;
		row(&t, name, s.s.stages[i], "");
	}
	row(&t, "remote frees", s.s.remote_frees, "");
	row(&t, "foreign frees", s.s.foreign_frees, "");
	row(&t, "fallbacks", s.s.fallbacks, "");
	row(&t, "failed requests", s.s.failed, "");
	for (unsigned i = 0; i < HAK_NODES; i++) {
		const struct hak_node *n = &hak_nodes[i];
		uint64_t mapped = atomic_load_explicit(&n->mapped_bytes, memory_order_relaxed);
		if (!mapped)
			continue;
		hak_text_str(&t, "\nnode ");
		hak_text_u64(&t, i);
		hak_text_str(&t, "\n");
		row(&t, "mapped", KIB(mapped));
		row(&t, "in slabs and runs", KIB(atomic_load_explicit(&n->live_bytes, memory_order_relaxed)));
		row(&t, "resident", KIB(r.node_rss[i]));
		row(&t, "on huge pages", KIB(r.node_huge[i]));
		row(&t, "live", KIB(s.live_node[i]));
		row(&t, "SuperSlabs in use", hak_node_supers(i), "");
	}
	hak_text_str(&t, "\nengines: placement ");
	hak_text_str(&t, engine_bind());
	hak_text_str(&t, ", reclaim ");
	hak_text_str(&t, engine_reclaim());
	hak_text_str(&t, "\n");
	hak_text_write(&t, fd);
}

/* ---- JSON ------------------------------------------------------------------------ */

/* Every key and string below is a literal, so nothing needs escaping. */
static void field(struct hak_text *t, const char *name, uint64_t v)
{
	if (t->len && t->buf[t->len - 1] != '{' && t->buf[t->len - 1] != '[')
		hak_text_str(t, ",");
	hak_text_str(t, "\"");
	hak_text_str(t, name);
	hak_text_str(t, "\":");
	hak_text_u64(t, v);
}

static void open_key(struct hak_text *t, const char *name, const char *bracket)
{
	if (t->len && t->buf[t->len - 1] != '{')
		hak_text_str(t, ",");
	hak_text_str(t, "\"");
	hak_text_str(t, name);
	hak_text_str(t, "\":");
	hak_text_str(t, bracket);
}

static void json(int fd)
{
	char buf[TEXT_BYTES];
	struct hak_text t = { buf, 0, sizeof buf };
	struct totals s;
	struct resident r;
	collect(&s);
	read_resident(&r);
	hak_text_str(&t, "{");
	field(&t, "version", 1);
	field(&t, "pid", (uint64_t)getpid());
	field(&t, "mapped", s.s.mapped);
	field(&t, "slab_mapped", s.slab_mapped);
	field(&t, "span_resident", r.span_rss);
	field(&t, "span_huge", r.span_huge);
	field(&t, "live", s.s.live);
	field(&t, "cached", s.s.cached);
	field(&t, "heaps", s.s.heaps);
	field(&t, "remote_frees", s.s.remote_frees);
	field(&t, "fallbacks", s.s.fallbacks);
#define COUNTER(name, help) field(&t, #name, s.c.name);
#include "counters.def"
#undef COUNTER
#define X(name) field(&t, #name, s.h.name);
	HAK_HEAP_COUNTERS(X)
#undef X
	open_key(&t, "tiers", "{");
	field(&t, "tiny", s.live_tier[HAK_TIER_TINY]);
	field(&t, "pool", s.live_tier[HAK_TIER_POOL]);
	field(&t, "l25", s.live_tier[HAK_TIER_L25]);
	field(&t, "huge", s.live_tier[HAK_TIER_HUGE]);
	hak_text_str(&t, "}");
	open_key(&t, "stages", "{");
	for (int i = 0; i < HAK_STAGES; i++)
		field(&t, stage_names[i], s.s.stages[i]);
	hak_text_str(&t, "}");
	open_key(&t, "nodes", "[");
	bool first = true;
	for (unsigned i = 0; i < HAK_NODES; i++) {
		const struct hak_node *n = &hak_nodes[i];
		uint64_t mapped = atomic_load_explicit(&n->mapped_bytes, memory_order_relaxed);
		if (!mapped)
			continue;
		hak_text_str(&t, first ? "{" : ",{");
		first = false;
		field(&t, "node", i);
		field(&t, "mapped", mapped);
		field(&t, "claimed", atomic_load_explicit(&n->live_bytes, memory_order_relaxed));
		field(&t, "resident", r.node_rss[i]);
		field(&t, "huge", r.node_huge[i]);
		field(&t, "live", s.live_node[i]);
		field(&t, "remote_frees", s.remote_node[i]);
		field(&t, "superslabs", hak_node_supers(i));
		hak_text_str(&t, "}");
	}
	hak_text_str(&t, "]");
	open_key(&t, "engines", "{\"placement\":\"");
	hak_text_str(&t, engine_bind());
	hak_text_str(&t, "\",\"reclaim\":\"");
	hak_text_str(&t, engine_reclaim());
	hak_text_str(&t, "\",\"guard\":\"none\"");
	field(&t, "binds", s.c.binds);
	field(&t, "bind_failures", s.c.bind_failures);
	hak_text_str(&t, "}}\n");
	hak_text_write(&t, fd);
}

/* ---- at exit --------------------------------------------------------------------- */

static char path[PATH_BYTES];

void hak_stats_start(void)
{
	const char *how = hak_option_strings[HAK_STR_stats];
	if (!how || !strcmp(how, "0") || !strcmp(how, "1"))
		return;
	if (strncmp(how, "json:", 5) == 0 && how[5] && strlen(how) < sizeof path) {
		strcpy(path, how + 5);
		return;
	}
	hak_warn("HAKMEM_STATS is 1 or json:PATH, ignored", how);
	hak_option_strings[HAK_STR_stats] = NULL;
}

/* The path with %p replaced by the process id, of the process that writes. */
static void expand(char *out, size_t cap)
{
	struct hak_text t = { out, 0, cap - 1 };
	for (const char *s = path; *s; s++) {
		char c[2] = { *s, 0 };
		if (s[0] == '%' && s[1] == 'p') {
			hak_text_u64(&t, (uint64_t)getpid());
			s++;
		} else {
			hak_text_str(&t, c);
		}
	}
	out[t.len] = 0;
}

void hak_stats_exit(void)
{
	char name[PATH_BYTES + 24];
	const char *how = hak_option_strings[HAK_STR_stats];
	if (!how || !strcmp(how, "0"))
		return;
	if (!path[0]) {
		hak_stats_table(STDERR_FILENO);
		return;
	}
	expand(name, sizeof name);
	int fd = hak_sys_open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0) {
		hak_warn("cannot write statistics", name);
		return;
	}
	json(fd);
	hak_sys_close(fd);
}
