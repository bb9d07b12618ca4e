/* SPDX-License-Identifier: MIT */
/*
 * Snapshot, table and JSON. Text is put together in a fixed buffer on the stack and handed
 * to a sink: this runs in destructors, on small stacks, and must not allocate.
 */
#include "stats.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ace/health.h"
#include "ace/prewarm.h"
#include "clock.h"
#include "counters.h"
#include "die.h"
#include "fresh.h"
#include "hakmem/hakmem.h"
#include "heap.h"
#include "init.h"
#include "numa/engine.h"
#include "numa/node.h"
#include "numa/topology.h"
#include "options.h"
#include "reclaim.h"
#include "sys/sys.h"

#define BUFFER_BYTES 12288 /* a line of JSON of a machine with few nodes is one write */
#define LOCK_TRIES 1000

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
	uint64_t slab_mapped, run_live;
	uint64_t live_node[HAK_NODES], remote_node[HAK_NODES];
};

static void add_heap(struct totals *t, const struct hak_heap *h)
{
	for (unsigned c = 0; c < HAK_CLASSES; c++) {
		const struct hak_heap_class *k = &h->classes[c];
		uint64_t stride = hak_classes[c].stride;
		/* of an abandoned one a magazine may be half changed */
		uint64_t cached = h->home == h && !h->abandoned ? hak_heap_cached(h, c) : 0;
		for (const struct hak_heap *g = h->guests; g; g = g->next_guest)
			cached += hak_heap_cached(g, c);
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
			if (hak_trylock(&h->home->lock)) {
				add_heap(t, h);
				hak_unlock(&h->home->lock);
				break;
			}
			sched_yield();
		}
	}
#define COUNTER(name, help) t->c.name = hak_counted(name);
#include "counters.def"
#undef COUNTER
	for (unsigned i = 0; i < HAK_NODES; i++) {
		t->slab_mapped += atomic_load_explicit(&hak_nodes[i].mapped_bytes, memory_order_relaxed);
		t->run_live += atomic_load_explicit(&hak_nodes[i].run_bytes, memory_order_relaxed);
	}
	t->live_tier[HAK_TIER_L25] += t->run_live;
	t->live_tier[HAK_TIER_HUGE] = t->c.span_live + t->c.own_mapped;
	t->s.size = sizeof t->s;
	t->s.version = HAKMEM_STATS_VERSION;
	t->s.metadata = t->c.metadata;
	t->s.mapped = t->slab_mapped + t->c.span_mapped + t->c.own_mapped + t->c.own_kept + t->s.metadata;
	t->s.live += t->run_live + t->live_tier[HAK_TIER_HUGE];
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

/* ---- text ------------------------------------------------------------------------ */

struct out {
	hakmem_write_fn *write;
	void *arg;
	size_t len;
	char last; /* what was put last, also if it is written by now */
	char buf[BUFFER_BYTES];
};

static void flush(struct out *o)
{
	if (o->len)
		o->write(o->arg, o->buf, o->len);
	o->len = 0;
}

static void put(struct out *o, const char *s)
{
	for (; *s; s++) {
		if (o->len == sizeof o->buf)
			flush(o);
		o->buf[o->len++] = o->last = *s;
	}
}

static void put_u64(struct out *o, uint64_t v)
{
	char digits[24];
	struct hak_text d = { digits, 0, sizeof digits - 1 };
	hak_text_u64(&d, v);
	digits[d.len] = 0;
	put(o, digits);
}

void hak_stats_to_fd(void *fd, const char *text, size_t bytes)
{
	struct hak_text t = { (char *)(uintptr_t)text, bytes, bytes };
	hak_text_write(&t, *(const int *)fd);
}

/* ---- table ----------------------------------------------------------------------- */

static void row(struct out *o, const char *name, uint64_t v, const char *unit)
{
	size_t digits = 1;
	for (uint64_t rest = v; rest > 9; rest /= 10)
		digits++;
	put(o, "  ");
	put(o, name);
	for (size_t i = strlen(name) + digits; i < 40; i++)
		put(o, " ");
	put_u64(o, v);
	put(o, unit);
	put(o, "\n");
}

#define KIB(bytes) ((bytes) / 1024), " KiB"

static void table_of_node(struct out *o, unsigned i, const struct totals *s, const struct resident *r)
{
	const struct hak_node *n = &hak_nodes[i];
	uint64_t present, placed;
	put(o, "\nnode ");
	put_u64(o, hak_node_id(i));
	if (hak_node_policy(i)) {
		put(o, " under a policy, mode ");
		put_u64(o, hak_node_policy(i));
	}
	put(o, "\n");
	row(o, "mapped", KIB(atomic_load_explicit(&n->mapped_bytes, memory_order_relaxed)));
	row(o, "in slabs and runs", KIB(atomic_load_explicit(&n->live_bytes, memory_order_relaxed)));
	row(o, "resident", KIB(r->node_rss[i]));
	row(o, "on huge pages", KIB(r->node_huge[i]));
	row(o, "live", KIB(s->live_node[i]));
	row(o, "SuperSlabs in use", hak_node_supers(i), "");
	row(o, "spilled over", KIB(atomic_load_explicit(&n->spilled_bytes, memory_order_relaxed)));
	hak_node_sample(i, &present, &placed);
	row(o, "pages sampled", present, "");
	row(o, "of these on the node", placed, "");
}

/* Right-aligned in a column. */
static void cell(struct out *o, uint64_t v)
{
	for (uint64_t room = 1000000000; room > v && room > 1; room /= 10)
		put(o, " ");
	put(o, " ");
	put_u64(o, v);
}

static uint64_t frees(unsigned from, unsigned to)
{
	/* relaxed: a figure */
	return atomic_load_explicit(&hak_node_frees[from][to], memory_order_relaxed);
}

/* Rows are the nodes of the threads that freed, columns those of the heaps that owned the blocks. */
static void table_of_frees(struct out *o)
{
	put(o, "\nremote frees\n  from, to node");
	for (unsigned to = 0; to < HAK_NODES; to++)
		if (hak_node_in_use(to))
			cell(o, hak_node_id(to));
	for (unsigned from = 0; from < HAK_NODES; from++) {
		if (!hak_node_in_use(from))
			continue;
		put(o, "\n  ");
		cell(o, hak_node_id(from));
		for (unsigned to = 0; to < HAK_NODES; to++)
			if (hak_node_in_use(to))
				cell(o, frees(from, to));
	}
	put(o, "\n");
}

void hak_stats_table(hakmem_write_fn *write, void *arg)
{
	static const char *const tiers[HAK_TIERS] = { "tiny live", "pool live", "l25 live", "huge live" };
	static const char *const stages[HAK_STAGES] = { "  stage own",	 "  stage near",   "  stage adopted",
							"  stage empty", "  stage unused", "  stage new" };
	struct out o = { .write = write, .arg = arg };
	struct totals s;
	struct resident r;
	collect(&s);
	read_resident(&r);
	put(&o, "hakmem " HAKMEM_VERSION " statistics\n\nmapped memory\n");
	row(&o, "slabs and runs", KIB(s.slab_mapped));
	row(&o, "span arenas", KIB(s.c.span_mapped));
	row(&o, "own mappings", KIB(s.c.own_mapped));
	row(&o, "own mappings kept", KIB(s.c.own_kept));
	row(&o, "metadata", KIB(s.s.metadata));
	row(&o, "total mapped", KIB(s.s.mapped));
	put(&o, "\nuse\n");
	for (int i = 0; i < HAK_TIERS; i++)
		row(&o, tiers[i], KIB(s.live_tier[i]));
	row(&o, "cached in magazines", KIB(s.s.cached));
	row(&o, "given back", KIB(s.s.released));
	put(&o, "\nevents\n");
	row(&o, "heaps", s.s.heaps, "");
	row(&o, "refills", s.h.refills, "");
	row(&o, "drains", s.h.drains, "");
	row(&o, "slab requests", s.h.slab_requests, "");
	for (int i = 0; i < HAK_STAGES; i++)
		row(&o, stages[i], s.s.stages[i], "");
	row(&o, "remote frees", s.s.remote_frees, "");
	row(&o, "foreign frees", s.s.foreign_frees, "");
	row(&o, "fallbacks", s.s.fallbacks, "");
	row(&o, "failed requests", s.s.failed, "");
	for (unsigned i = 0; i < HAK_NODES; i++)
		if (hak_node_in_use(i))
			table_of_node(&o, i, &s, &r);
	table_of_frees(&o);
	put(&o, "\nengines: placement ");
	put(&o, engine_bind());
	put(&o, ", reclaim ");
	put(&o, hak_engine_name());
	put(&o, ", topology ");
	put(&o, hak_topology_source());
	put(&o, "\n");
	flush(&o);
}

/* ---- JSON ------------------------------------------------------------------------ */

/* Every key and string below is a literal, so nothing needs escaping. */
static void key(struct out *o, const char *name)
{
	if (o->last != '{')
		put(o, ",");
	put(o, "\"");
	put(o, name);
	put(o, "\":");
}

static void field(struct out *o, const char *name, uint64_t v)
{
	key(o, name);
	put_u64(o, v);
}

static void text_field(struct out *o, const char *name, const char *value)
{
	key(o, name);
	put(o, "\"");
	put(o, value);
	put(o, "\"");
}

static void json_of_node(struct out *o, unsigned i, const struct totals *s, const struct resident *r)
{
	const struct hak_node *n = &hak_nodes[i];
	uint64_t supers[HAK_OCCUPANCY];
	put(o, o->last == '[' ? "{" : ",{");
	field(o, "node", hak_node_id(i));
	field(o, "policy", hak_node_policy(i));
#define X(name, member) field(o, #name, atomic_load_explicit(&n->member, memory_order_relaxed));
	HAK_NODE_COUNTERS(X)
#undef X
	if (r) {
		field(o, "resident", r->node_rss[i]);
		field(o, "huge", r->node_huge[i]);
		uint64_t present, placed;
		hak_node_sample(i, &present, &placed);
		field(o, "sampled", present);
		field(o, "placed", placed);
	}
	field(o, "live", s->live_node[i]);
	field(o, "remote_frees", s->remote_node[i]);
	hak_node_occupancy(i, supers);
	uint64_t used = 0;
	for (int k = 1; k < HAK_OCCUPANCY; k++)
		used += supers[k];
	field(o, "superslabs", used);
	key(o, "occupancy");
	for (int k = 0; k < HAK_OCCUPANCY; k++) {
		put(o, k ? "," : "[");
		put_u64(o, supers[k]);
	}
	put(o, "]}");
}

/* In the order of the list of nodes. */
static void json_of_frees(struct out *o)
{
	key(o, "remote_matrix");
	put(o, "[");
	for (unsigned from = 0; from < HAK_NODES; from++) {
		if (!hak_node_in_use(from))
			continue;
		put(o, o->last == '[' ? "[" : ",[");
		for (unsigned to = 0; to < HAK_NODES; to++) {
			if (!hak_node_in_use(to))
				continue;
			if (o->last != '[')
				put(o, ",");
			put_u64(o, frees(from, to));
		}
		put(o, "]");
	}
	put(o, "]");
}

/* Resident pages of the whole process; 0 without /proc. */
static uint64_t process_resident(void)
{
	char statm[128];
	if (hak_sys.read_file("/proc/self/statm", statm, sizeof statm) <= 0)
		return 0;
	const char *second = strchr(statm, ' ');
	return second ? number(second, 10) * HAK_PAGE : 0;
}

/* Which classes' first touches cost page faults, and how many the process has had, whoever's. */
static void json_of_fresh(struct out *o)
{
	struct rusage usage;
	field(o, "minor_faults", getrusage(RUSAGE_SELF, &usage) ? 0 : (uint64_t)usage.ru_minflt);
	key(o, "fresh_classes");
	put(o, "[");
	for (unsigned c = 0; c < HAK_CLASSES; c++) {
		/* relaxed: a figure */
		uint64_t pages = atomic_load_explicit(&hak_fresh_pages[c], memory_order_relaxed);
		if (!pages)
			continue;
		put(o, o->last == '[' ? "{" : ",{");
		field(o, "bytes", hak_classes[c].stride);
		field(o, "pages", pages);
		put(o, "}");
	}
	put(o, "]");
}

/* Whether classes had what was asked of them, and what was made ready for them. */
static void json_of_classes(struct out *o)
{
	struct hak_prewarmed p;
	key(o, "classes");
	put(o, "[");
	for (unsigned c = 0; c < HAK_STATIC_CLASSES; c++) {
		struct hak_health_class k = hak_health_class(c);
		if (!k.hit_kib && !k.missed_kib)
			continue;
		put(o, o->last == '[' ? "{" : ",{");
		field(o, "bytes", hak_classes[c].stride);
		field(o, "hit_kib", k.hit_kib);
		field(o, "missed_kib", k.missed_kib);
		put(o, "}");
	}
	put(o, "]");
	key(o, "prewarm");
	put(o, "[");
	for (unsigned i = 0; hak_prewarm_figures(i, &p); i++) {
		put(o, o->last == '[' ? "{" : ",{");
		field(o, "bytes", hak_classes[p.class].stride);
		field(o, "wanted", p.wanted);
		field(o, "ready", p.ready);
		field(o, "taken", p.taken);
		put(o, "}");
	}
	put(o, "]");
}

void hak_stats_json(hakmem_write_fn *write, void *arg, bool pages)
{
	static const char *const names[] = HAK_STAGE_NAMES;
	struct out o = { .write = write, .arg = arg };
	struct totals s;
	struct resident r;
	collect(&s);
	if (pages)
		read_resident(&r);
	put(&o, "{");
	field(&o, "version", HAKMEM_STATS_VERSION);
	text_field(&o, "library", HAKMEM_VERSION);
	field(&o, "pid", (uint64_t)getpid());
	field(&o, "time_ms", hak_clock_ns(CLOCK_REALTIME) / HAK_NS_PER_MS);
	field(&o, "monotonic_ms", hak_now_ms());
	field(&o, "rss", process_resident());
	field(&o, "mapped", s.s.mapped);
	field(&o, "slab_mapped", s.slab_mapped);
	field(&o, "run_live", s.run_live);
	if (pages) {
		field(&o, "span_resident", r.span_rss);
		field(&o, "span_huge", r.span_huge);
	}
	field(&o, "live", s.s.live);
	field(&o, "cached", s.s.cached);
	field(&o, "heaps", s.s.heaps);
	field(&o, "remote_frees", s.s.remote_frees);
	field(&o, "fallbacks", s.s.fallbacks);
#define COUNTER(name, help) field(&o, #name, s.c.name);
#include "counters.def"
#undef COUNTER
#define X(name) field(&o, #name, s.h.name);
	HAK_HEAP_COUNTERS(X)
#undef X
	key(&o, "tiers");
	put(&o, "{");
	field(&o, "tiny", s.live_tier[HAK_TIER_TINY]);
	field(&o, "pool", s.live_tier[HAK_TIER_POOL]);
	field(&o, "l25", s.live_tier[HAK_TIER_L25]);
	field(&o, "huge", s.live_tier[HAK_TIER_HUGE]);
	put(&o, "}");
	json_of_fresh(&o);
	json_of_classes(&o);
	key(&o, "stages");
	put(&o, "{");
	for (int i = 0; i < HAK_STAGES; i++)
		field(&o, names[i], s.s.stages[i]);
	put(&o, "}");
	key(&o, "nodes");
	put(&o, "[");
	for (unsigned i = 0; i < HAK_NODES; i++)
		if (hak_node_in_use(i))
			json_of_node(&o, i, &s, pages ? &r : NULL);
	put(&o, "]");
	json_of_frees(&o);
	key(&o, "engines");
	put(&o, "{");
	text_field(&o, "placement", engine_bind());
	text_field(&o, "reclaim", hak_engine_name());
	text_field(&o, "topology", hak_topology_source());
	text_field(&o, "guard", s.c.guards ? "pages" : "none");
	field(&o, "binds", s.c.binds);
	field(&o, "bind_failures", s.c.bind_failures);
	put(&o, "}}\n");
	flush(&o);
}
