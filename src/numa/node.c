/* SPDX-License-Identifier: MIT */
/*
 * Which node a thread is on, which pool its memory comes from, and how memory is bound.
 *
 * key of a pool from DIRECT on, one word, so that it is claimed by one CAS:
 *   bits 0..11   the kernel's node
 *   bits 12..15  the policy's mode, 0 none
 *   bits 16..63  hash of the user's policy; 0: hakmem's own binding
 */
#include "numa/node.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/mman.h>

#include "counters.h"
#include "die.h"
#include "hakmem/hakmem.h"
#include "options.h"
#include "sys/sys.h"
#include "topo/topo.h"

#define WEIGHTED_INTERLEAVE 6 /* MPOL_WEIGHTED_INTERLEAVE, Linux 6.9 */
#define KEY_HASH_SHIFT 16
#define PATH_BYTES 64
#define LIST_BYTES 4096 /* a list of 1,024 nodes or distances */
#define FAR UINT16_MAX
#define HASH_START 0xcbf29ce484222325u
/* Pages looked at before a huge block is handed out again: two of each SuperSlab of 64 MiB */
#define SAMPLES 64u
/* Where nobody may ask, huge blocks from this size on are never handed out as they lie. The C library's
 * malloc maps those anew each time (DEFAULT_MMAP_THRESHOLD_MAX), so programs that spread them by first
 * touch find the same; a smaller one is mostly one thread's, and touching it anew would cost more. */
#define UNASKED_BYTES ((size_t)32 << 20)

struct hak_node hak_nodes[HAK_NODES] = {
	[0 ... HAK_NODES - 1] = { .lock = HAK_LOCK_INIT(HAK_RANK_NODE), .park_lock = HAK_LOCK_INIT(HAK_RANK_PARK) }
};
_Atomic uint32_t hak_node_count;
_Atomic uint64_t hak_node_frees[HAK_NODES][HAK_NODES];

/* Sets of the kernel's nodes; written before the count, all threads write the same. Later by the
 * reclaimer's thread alone, when the machine changes: who reads the old one is right about a moment ago. */
struct set {
	_Atomic unsigned long word[HAK_NODE_WORDS];
};
static struct set with_memory, with_cpus;
/* For CPUs on nodes without memory: 1 + the nearest that has some; 0: not asked yet. */
static _Atomic uint16_t homes[HAK_NODE_IDS];
static const struct hak_topology *_Atomic topology;
static HAK_TLS uint16_t pinned; /* 1 + the pool that the thread asked for; 0: none */
/* What the kernel has refused for good: asking again would cost a system call each time. */
static _Atomic bool policy_refused, many_refused, last_refused, where_refused;

/* relaxed, all of them: set before the count is published, or a flag that costs one more call */
static bool set_has(const struct set *s, unsigned id)
{
	return id < HAK_NODE_IDS && atomic_load_explicit(&s->word[id / 64], memory_order_relaxed) >> (id % 64) & 1;
}
static void set_add(struct set *s, unsigned id)
{
	atomic_fetch_or_explicit(&s->word[id / 64], 1ul << (id % 64), memory_order_relaxed);
}
static bool flag(const _Atomic bool *f)
{
	return atomic_load_explicit(f, memory_order_relaxed);
}
static void raise_flag(_Atomic bool *f)
{
	atomic_store_explicit(f, true, memory_order_relaxed);
}

/* ---- sysfs: lists like "0-3,8", and distances like "10 20 20 30" ------------------- */

static const char *read_number(const char *s, unsigned *n)
{
	for (*n = 0; *s >= '0' && *s <= '9'; s++)
		*n = *n * 10 + (unsigned)(*s - '0');
	return s;
}

/* Puts the nodes of /sys/devices/system/node/NAME into the set; how many. */
static uint32_t read_set(const char *name, struct set *set)
{
	char path[PATH_BYTES] = "/sys/devices/system/node/", list[LIST_BYTES];
	uint32_t count = 0;
	strcat(path, name);
	if (hak_sys.read_file(path, list, sizeof list) <= 0)
		return 0;
	for (const char *s = list; *s >= '0' && *s <= '9';) {
		unsigned from, to;
		s = read_number(s, &from);
		to = from;
		if (*s == '-')
			s = read_number(s + 1, &to);
		for (; from <= to && from < HAK_NODE_IDS; from++) {
			count += !set_has(set, from);
			set_add(set, from);
		}
		s += *s == ',';
	}
	return count;
}

/* Distances from node `id` to each of the kernel's nodes; FAR where nothing is said. */
static void read_distances(unsigned id, uint16_t distance[HAK_NODE_IDS])
{
	char path[PATH_BYTES], text[LIST_BYTES];
	struct hak_text t = { path, 0, sizeof path - 1 };
	struct set online = { 0 };
	memset(distance, 0xff, HAK_NODE_IDS * sizeof *distance);
	/* acquire TOPOLOGY: what it points to */
	const struct hak_topology *topo = atomic_load_explicit(&topology, memory_order_acquire);
	for (uint32_t i = 0; topo && i < topo->nodes; i++)
		for (uint32_t to = 0; topo->node[i].os_index == id && to < topo->nodes; to++)
			if (topo->node[to].os_index < HAK_NODE_IDS)
				distance[topo->node[to].os_index] =
					(uint16_t)hak_min(topo->node[i].distance[to], FAR - 1);
	if (topo)
		return;
	hak_text_str(&t, "/sys/devices/system/node/node");
	hak_text_u64(&t, id);
	hak_text_str(&t, "/distance");
	path[t.len] = 0;
	if (!read_set("online", &online) || hak_sys.read_file(path, text, sizeof text) <= 0)
		return;
	const char *s = text;
	for (unsigned to = 0; to < HAK_NODE_IDS; to++) {
		unsigned n;
		if (!set_has(&online, to))
			continue;
		while (*s == ' ')
			s++;
		if (*s < '0' || *s > '9')
			return;
		s = read_number(s, &n);
		distance[to] = (uint16_t)hak_min(n, FAR - 1);
	}
}

static uint32_t node_count(void)
{
	/* acquire NODES: the sets */
	uint32_t n = atomic_load_explicit(&hak_node_count, memory_order_acquire);
	if (n)
		return n;
	n = (uint32_t)hak_max(1, read_set("has_memory", &with_memory));
	/* a machine with one node needs to know no more */
	if (n > 1)
		read_set("has_cpu", &with_cpus);
	/* release NODES; any thread reads the same */
	atomic_store_explicit(&hak_node_count, n, memory_order_release);
	return n;
}

bool hak_node_several(void)
{
	return node_count() > 1;
}

/* ---- which node -------------------------------------------------------------------- */

static unsigned nearest_with_memory(unsigned id)
{
	uint16_t distance[HAK_NODE_IDS];
	unsigned best = id;
	read_distances(id, distance);
	distance[id] = FAR;
	for (unsigned to = 0; to < HAK_NODE_IDS; to++)
		if (set_has(&with_memory, to) && distance[to] < distance[best])
			best = to;
	return best;
}

static HAK_COLD unsigned home_slow(unsigned id)
{
	unsigned home = atomic_load_explicit(&homes[id], memory_order_relaxed);
	if (!home || !set_has(&with_memory, home - 1)) {
		home = nearest_with_memory(id) + 1;
		atomic_store_explicit(&homes[id], (uint16_t)home, memory_order_relaxed);
	}
	return home - 1;
}

unsigned hak_node_here(void)
{
	unsigned id = 0;
	/* acquire NODES: the sets. Not yet asked: node 0 until hak_node_mine has */
	if (atomic_load_explicit(&hak_node_count, memory_order_acquire) <= 1)
		return 0;
	if (hak_sys.getcpu(NULL, &id) || id >= HAK_NODE_IDS)
		return 0;
	return hak_likely(set_has(&with_memory, id)) ? id : home_slow(id);
}

/* ---- pools ------------------------------------------------------------------------- */

static uint64_t key_of(unsigned node)
{
	return node < HAK_NODES_DIRECT ? node :
		/* cppcheck-suppress arrayIndexOutOfBoundsCond ; an index is below HAK_NODES */
		/* relaxed: who has the index got it after the key was set */
		atomic_load_explicit(&hak_nodes[node].key, memory_order_relaxed);
}

unsigned hak_node_id(unsigned node)
{
	return (unsigned)(key_of(node) & (HAK_NODE_IDS - 1));
}

static unsigned key_mode(uint64_t key)
{
	return (unsigned)(key >> HAK_NODE_MODE_SHIFT) & 15;
}

unsigned hak_node_policy(unsigned node)
{
	return key_mode(key_of(node));
}

static bool is_users(unsigned node)
{
	return key_of(node) >> KEY_HASH_SHIFT;
}

bool hak_node_interleaves(unsigned node)
{
	unsigned mode = hak_node_policy(node);
	return mode == MPOL_INTERLEAVE || mode == WEIGHTED_INTERLEAVE;
}

/* The index of the pool with this key. When all are taken the last one serves all further
 * policies: their memory is then shared, and only fresh memory lies as each of them says. */
static unsigned pool_of(uint64_t key)
{
	unsigned i = HAK_NODES_DIRECT;
	if (key < HAK_NODES_DIRECT)
		return (unsigned)key;
	for (; i < HAK_NODES - 1; i++) {
		uint64_t old = 0;
		/* relaxed: the key is all there is to see */
		if (atomic_load_explicit(&hak_nodes[i].key, memory_order_relaxed) == key ||
		    atomic_compare_exchange_strong_explicit(&hak_nodes[i].key, &old, key, memory_order_relaxed,
							    memory_order_relaxed) ||
		    old == key)
			return i;
	}
	uint64_t old = 0;
	atomic_compare_exchange_strong_explicit(&hak_nodes[i].key, &old, key, memory_order_relaxed,
						memory_order_relaxed);
	return i;
}

bool hak_node_may_ask(void)
{
	return !hak_sys_filtered() || hak_option_get(HAK_OPT_bind) == HAK_BIND_ON;
}

bool hak_node_may_bind(void)
{
	return hak_node_may_ask() && hak_option_get(HAK_OPT_bind) != HAK_BIND_OFF;
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
	return hash ^ hash >> 29;
}

/* The part of the key that says under which policy of the user's this thread stands; 0: none. */
static uint64_t policy_key(void)
{
	unsigned long nodes[HAK_NODE_WORDS] = { 0 };
	uint64_t hash = HASH_START;
	int mode = MPOL_DEFAULT;
	bool any = false;
	if (!hak_node_may_bind() || flag(&policy_refused))
		return 0;
	if (hak_sys.get_mempolicy(&mode, nodes, HAK_NODE_IDS + 1, NULL, 0)) {
		raise_flag(&policy_refused); /* seccomp, or no NUMA in this kernel: it stays so */
		return 0;
	}
	unsigned plain = (unsigned)mode & 15;
	for (unsigned i = 0; i < HAK_NODE_WORDS; i++) {
		hash = mix(hash, nodes[i]);
		any |= nodes[i] != 0;
	}
	/* local allocation is what a thread without a policy gets */
	if (plain == MPOL_DEFAULT || plain == MPOL_LOCAL || (plain == MPOL_PREFERRED && !any))
		return 0;
	hash = ((hash ^ (unsigned)mode) * 0x9e3779b97f4a7c15u) >> KEY_HASH_SHIFT | 1;
	return hash << KEY_HASH_SHIFT | plain << HAK_NODE_MODE_SHIFT;
}

unsigned hak_node_mine(void)
{
	if (node_count() < 2)
		return 0;
	return pinned ? pinned - 1u : pool_of(hak_node_here() | policy_key());
}

bool hak_node_still(unsigned node)
{
	if (hak_unlikely(pinned))
		return node == pinned - 1u;
	return hak_node_here() == hak_node_id(node);
}

/* ---- places ------------------------------------------------------------------------ */

/* The nearest allowed node with memory of these kinds; -1: there is none. */
static int nearest_of_kind(bool bandwidth)
{
	uint16_t distance[HAK_NODE_IDS];
	int best = -1;
	/* acquire TOPOLOGY: what it points to */
	const struct hak_topology *topo = atomic_load_explicit(&topology, memory_order_acquire);
	read_distances(hak_node_here(), distance);
	for (unsigned i = 0; i < (topo ? topo->nodes : HAK_NODE_IDS); i++) {
		unsigned id = topo ? topo->node[i].os_index : i;
		bool fits = topo ? topo->node[i].allowed && (topo->node[i].kind == HAK_MEM_HBM) == bandwidth &&
					   topo->node[i].kind != HAK_MEM_DRAM :
				   !bandwidth && !set_has(&with_cpus, id);
		if (fits && set_has(&with_memory, id) && (best < 0 || distance[id] < distance[best]))
			best = (int)id;
	}
	return best;
}

unsigned hak_node_local(void)
{
	return node_count() < 2 ? 0 : pool_of(hak_node_here());
}

int hak_node_place(int place)
{
	uint32_t count = node_count();
	int id = place;
	switch (place) {
	case HAKMEM_NODE_LOCAL:
		return (int)hak_node_local();
	case HAKMEM_NODE_INTERLEAVED:
		return count < 2 ? 0 : (int)pool_of((uint64_t)MPOL_INTERLEAVE << HAK_NODE_MODE_SHIFT);
	case HAKMEM_NODE_BANDWIDTH:
	case HAKMEM_NODE_CAPACITY:
		id = nearest_of_kind(place == HAKMEM_NODE_BANDWIDTH);
		if (id < 0)
			return (int)hak_node_local();
	}
	if (id < 0 || !(set_has(&with_memory, (unsigned)id) || (count < 2 && id == 0)))
		return -1;
	return count < 2 ? 0 : (int)pool_of((unsigned)id);
}

void hak_node_pin(int node)
{
	pinned = (uint16_t)(node + 1);
}

bool hak_node_pinned(void)
{
	return pinned;
}

int hak_node_where(const void *p)
{
	void *page = (void *)hak_align_down((uintptr_t)p, HAK_PAGE);
	int where = -1;
	if (!hak_node_may_ask() || flag(&where_refused) || hak_sys.where_pages(1, &page, &where))
		return -1;
	return where < 0 ? -1 : where;
}

/* False: the kernel does not tell. */
static bool count_pages(unsigned id, unsigned long n, void **page, uint64_t *present, uint64_t *placed)
{
	int where[SAMPLES];
	if (n && hak_sys.where_pages(n, page, where))
		return false;
	for (unsigned long i = 0; i < n; i++) {
		*present += where[i] >= 0;
		*placed += where[i] == (int)id;
	}
	return true;
}

bool hak_node_in_use(unsigned node)
{
	uint64_t sum = atomic_load_explicit(&hak_nodes[node].mapped_bytes, memory_order_relaxed);
	for (unsigned to = 0; to < HAK_NODES && !sum; to++)
		sum = atomic_load_explicit(&hak_node_frees[node][to], memory_order_relaxed);
	return sum;
}

void hak_node_sample(unsigned node, uint64_t *present, uint64_t *placed)
{
	void *page[SAMPLES];
	unsigned long n = 0, looks = 0;
	*present = *placed = 0;
	if (node_count() < 2 || !hak_node_may_bind() || hak_node_policy(node) || flag(&where_refused))
		return;
	/* acquire ARENAS; relaxed: a figure for statistics */
	struct hak_arena *a = atomic_load_explicit(&hak_nodes[node].arenas, memory_order_acquire);
	for (; a; a = a->next) {
		uint32_t end = atomic_load_explicit(&a->small_end, memory_order_relaxed);
		uint32_t start = atomic_load_explicit(&a->huge_start, memory_order_relaxed);
		for (uint32_t s = 0; s < HAK_ARENA_SUPERS && looks < HAK_SAMPLE_PAGES; s++) {
			uint64_t word = atomic_load_explicit(&a->super[s], memory_order_relaxed);
			uint32_t used = ~(HAK_WORD_EMPTY(word) | HAK_WORD_UNUSED(word));
			/* an unmapped granule's bits are as those of one in use */
			uint32_t g = s * 32 + (used ? (uint32_t)__builtin_ctz(used) : 0);
			if (!used || (g >= end && g < start))
				continue;
			page[n++] = a->base + (size_t)g * HAK_GRANULE;
			looks++;
			if (n == SAMPLES) {
				if (!count_pages(hak_node_id(node), n, page, present, placed))
					return;
				n = 0;
			}
		}
	}
	count_pages(hak_node_id(node), n, page, present, placed);
}

/* ---- binding ----------------------------------------------------------------------- */

/* Nodes with memory and CPUs. True: these are all that have memory. */
static bool nodes_with_both(unsigned long nodes[HAK_NODE_WORDS])
{
	bool all = true;
	for (unsigned i = 0; i < HAK_NODE_WORDS; i++) {
		unsigned long memory = atomic_load_explicit(&with_memory.word[i], memory_order_relaxed);
		nodes[i] = memory & atomic_load_explicit(&with_cpus.word[i], memory_order_relaxed);
		all &= nodes[i] == memory;
	}
	return all;
}

/*
 * On a machine with memory-only nodes: every node with CPUs before those, `id` first and the
 * rest by distance. Without it the kernel would go by distance alone.
 */
static bool bind_many(unsigned id, void *p, size_t bytes)
{
	unsigned long nodes[HAK_NODE_WORDS];
	if (nodes_with_both(nodes) || !set_has(&with_cpus, id) || flag(&many_refused))
		return false;
	if (hak_sys.mbind(p, bytes, MPOL_PREFERRED_MANY, nodes, HAK_NODE_IDS + 1, 0) == 0) {
		if (hak_sys.home_node(p, bytes, id) == 0)
			return true;
		if (errno == EINVAL) /* this node has just gone */
			return false;
	}
	raise_flag(&many_refused);
	return false;
}

void hak_node_bind(unsigned node, void *p, size_t bytes)
{
	unsigned long nodes[HAK_NODE_WORDS] = { 0 };
	unsigned id = hak_node_id(node);
	bool ok;
	if (!hak_node_may_bind() || node_count() < 2 || is_users(node))
		return;
	if (hak_node_policy(node) == MPOL_INTERLEAVE) {
		nodes_with_both(nodes);
		ok = hak_sys.mbind(p, bytes, MPOL_INTERLEAVE, nodes, HAK_NODE_IDS + 1, 0) == 0;
	} else {
		nodes[id / 64] = 1ul << (id % 64);
		ok = bind_many(id, p, bytes) ||
		     hak_sys.mbind(p, bytes, MPOL_PREFERRED, nodes, HAK_NODE_IDS + 1, 0) == 0;
	}
	if (ok)
		hak_count(binds, 1);
	else
		hak_count(bind_failures, 1);
}

/*
 * Without a home node the kernel begins where the touching thread is, so this is first touch. Not where
 * the kernel would then no longer move pages to the threads that use them (before Linux 6.10).
 */
void hak_node_memory_only_last(unsigned node, void *p, size_t bytes)
{
	unsigned long nodes[HAK_NODE_WORDS];
	if (!hak_node_may_bind() || node_count() < 2 || hak_node_policy(node) || nodes_with_both(nodes) ||
	    flag(&last_refused))
		return;
	if (hak_sys.mbind(p, bytes, MPOL_PREFERRED_MANY | MPOL_F_NUMA_BALANCING, nodes, HAK_NODE_IDS + 1, 0))
		raise_flag(&last_refused);
}

/* Does a part of the range lie on another node, or may it where nobody can ask? */
static bool is_elsewhere(unsigned node, void *p, size_t bytes)
{
	void *page[SAMPLES];
	int where[SAMPLES];
	size_t step = hak_max(HAK_SUPER / 2, hak_align_up(bytes / SAMPLES, HAK_PAGE));
	unsigned long n = 0;
	if (!hak_node_may_bind() || flag(&where_refused))
		return bytes >= UNASKED_BYTES;
	for (size_t at = 0; at < bytes && n < SAMPLES; at += step)
		page[n++] = (char *)p + at;
	if (hak_sys.where_pages(n, page, where)) {
		raise_flag(&where_refused);
		return bytes >= UNASKED_BYTES;
	}
	for (unsigned long i = 0; i < n; i++) /* a negative one is not there: first touch is to come */
		if (where[i] >= 0 && (unsigned)where[i] != hak_node_id(node))
			return true;
	return false;
}

bool hak_node_respread(unsigned node, void *p, size_t bytes)
{
	if (node_count() < 2 || hak_node_policy(node) || !is_elsewhere(node, p, bytes) ||
	    hak_sys.madvise(p, bytes, MADV_DONTNEED))
		return false;
	hak_count(respread, bytes);
	return true;
}

/* ---- other pools, nearest first ---------------------------------------------------- */

unsigned hak_node_order(unsigned node, uint8_t order[HAK_NODES])
{
	uint16_t distance[HAK_NODE_IDS];
	uint32_t rank[HAK_NODES];
	unsigned n = 0;
	read_distances(hak_node_id(node), distance);
	for (unsigned i = 0; i < HAK_NODES; i++) {
		unsigned id = hak_node_id(i), at = n;
		/* relaxed: arenas only come */
		if (i == node || !atomic_load_explicit(&hak_nodes[i].arenas, memory_order_relaxed))
			continue;
		uint32_t r = (uint32_t)(key_of(i) >> HAK_NODE_MODE_SHIFT != key_of(node) >> HAK_NODE_MODE_SHIFT) << 17 |
			     (uint32_t)!set_has(&with_cpus, id) << 16 | distance[id];
		/* cppcheck-suppress uninitvar ; at is at most n, which were written */
		for (; at > 0 && rank[at - 1] > r; at--) {
			rank[at] = rank[at - 1];
			order[at] = order[at - 1];
		}
		rank[at] = r;
		order[at] = (uint8_t)i;
		n++;
	}
	return n;
}

/* ---- a machine that changes --------------------------------------------------------- */

/* As the pool with a key never becomes another's, a second node once means several for good. */
static void publish_sets(void)
{
	uint32_t n = 0;
	for (unsigned id = 0; id < HAK_NODE_IDS; id++)
		n += set_has(&with_memory, id);
	/* release NODES: the sets */
	atomic_store_explicit(&hak_node_count, (uint32_t)hak_max(node_count(), n), memory_order_release);
}

void hak_node_topology(const struct hak_topology *t)
{
	node_count();
	if (!t->this_machine)
		return;
	/* what /sys did not say at the start */
	for (uint32_t i = 0; i < t->nodes; i++) {
		unsigned id = t->node[i].os_index;
		if (id >= HAK_NODE_IDS)
			continue;
		if (t->node[i].has_cpus)
			set_add(&with_cpus, id);
		if (t->node[i].memory_bytes)
			set_add(&with_memory, id);
	}
	publish_sets();
	/* release TOPOLOGY: what it points to */
	atomic_store_explicit(&topology, t, memory_order_release);
}

uint64_t hak_node_machine(void)
{
	static const char *const files[] = {
		"/sys/devices/system/node/online",     "/sys/devices/system/node/has_memory",
		"/sys/devices/system/node/has_cpu",    "/sys/devices/system/cpu/online",
	};
	unsigned long allowed[HAK_NODE_WORDS] = { 0 };
	char list[LIST_BYTES];
	uint64_t hash = HASH_START;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		ssize_t got = hak_sys.read_file(files[i], list, sizeof list);
		hash = mix(hash, (uint64_t)got);
		for (ssize_t at = 0; at < got; at++)
			hash = mix(hash, (unsigned char)list[at]);
	}
	/* where this is refused a container's nodes are taken to stay what they are */
	if (hak_node_may_bind() && !flag(&policy_refused))
		(void)hak_sys.get_mempolicy(NULL, allowed, HAK_NODE_IDS + 1, NULL, MPOL_F_MEMS_ALLOWED);
	for (unsigned i = 0; i < HAK_NODE_WORDS; i++)
		hash = mix(hash, allowed[i]);
	return hash | 1;
}

static void set_copy(struct set *to, const struct set *from)
{
	for (unsigned i = 0; i < HAK_NODE_WORDS; i++)
		atomic_store_explicit(&to->word[i], atomic_load_explicit(&from->word[i], memory_order_relaxed),
				      memory_order_relaxed);
}

void hak_node_changed(void)
{
	struct set memory = { 0 }, cpus = { 0 };
	if (!read_set("has_memory", &memory) || !read_set("has_cpu", &cpus))
		return;
	set_copy(&with_memory, &memory);
	set_copy(&with_cpus, &cpus);
	for (unsigned id = 0; id < HAK_NODE_IDS; id++)
		atomic_store_explicit(&homes[id], 0, memory_order_relaxed);
	publish_sets();
}
