/* SPDX-License-Identifier: MIT */
/*
 * What does hakmem make of a machine?
 *
 * Owns the entry of libhakmem-topo.so and the rules that turn what hwloc or sysfs found (a draft)
 * into an immutable snapshot: which nodes are which kind of memory, in which order they are tried,
 * how large spans are aligned. The snapshot is one mapping:
 *
 *   hak_topology | nodes | per node: distances | per node: CPU mask | cpu -> node | spill orders
 */
#include "draft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- rules ---- */

/* On-package memory has several times the bandwidth of DRAM; half as much again is no DRAM. */
static bool is_much_wider(uint32_t bandwidth, uint32_t reference)
{
	return bandwidth && reference && bandwidth >= reference + reference / 2;
}

/*
 * A node is what its source calls it. Without a word: DRAM if it has CPUs; a memory-only node is
 * compared with the best of those that have CPUs.
 */
static void choose_kinds(struct hak_draft *draft)
{
	static const uint8_t kind_of_hint[] = {
		[HAK_HINT_DRAM] = HAK_MEM_DRAM,
		[HAK_HINT_HBM] = HAK_MEM_HBM,
		[HAK_HINT_CXL] = HAK_MEM_CXL,
		[HAK_HINT_OTHER] = HAK_MEM_OTHER,
	};
	uint32_t bandwidth = 0, latency = UINT32_MAX;

	for (uint32_t i = 0; i < draft->nodes; i++) {
		const struct hak_topo_node *node = &draft->node[i].node;

		if (!node->has_cpus || draft->node[i].hint > HAK_HINT_DRAM)
			continue;
		if (node->bandwidth_mibs > bandwidth)
			bandwidth = node->bandwidth_mibs;
		if (node->latency_ns && node->latency_ns < latency)
			latency = node->latency_ns;
	}
	for (uint32_t i = 0; i < draft->nodes; i++) {
		struct hak_topo_node *node = &draft->node[i].node;

		if (draft->node[i].hint != HAK_HINT_NONE)
			node->kind = kind_of_hint[draft->node[i].hint];
		else if (node->has_cpus)
			node->kind = HAK_MEM_DRAM;
		else if (is_much_wider(node->bandwidth_mibs, bandwidth))
			node->kind = HAK_MEM_HBM;
		else if ((node->bandwidth_mibs && node->bandwidth_mibs < bandwidth) ||
			 (node->latency_ns > latency))
			node->kind = HAK_MEM_CXL;
		else
			node->kind = HAK_MEM_OTHER;
	}
}

/* As the kernel counts: 10 is local, 20 a hop of which nothing is known. */
static uint32_t distance(const struct hak_draft *draft, uint32_t from, uint32_t to)
{
	uint32_t known = draft->distance ? draft->distance[from * draft->nodes + to] : 0;

	return known ? known : from == to ? 10 : 20;
}

static bool is_tried_before(const struct hak_draft *draft, uint32_t from, uint32_t a, uint32_t b)
{
	const struct hak_topo_node *x = &draft->node[a].node, *y = &draft->node[b].node;

	if (x->has_cpus != y->has_cpus)
		return x->has_cpus;
	if (x->kind != y->kind)
		return x->kind < y->kind;
	if (distance(draft, from, a) != distance(draft, from, b))
		return distance(draft, from, a) < distance(draft, from, b);
	return a < b;
}

static uint16_t choose_spills(const struct hak_draft *draft, uint32_t from, uint16_t *spill)
{
	uint16_t count = 0;

	for (uint32_t to = 0; to < draft->nodes; to++) {
		const struct hak_topo_node *node = &draft->node[to].node;
		uint16_t at = count;

		if (to == from || !node->allowed || !node->memory_bytes)
			continue;
		for (; at > 0 && is_tried_before(draft, from, to, spill[at - 1]); at--)
			spill[at] = spill[at - 1];
		spill[at] = (uint16_t)to;
		count++;
	}
	return count;
}

static uint64_t choose_align(const struct hak_draft *draft)
{
	uint64_t sizes = draft->thp_sizes, huge = draft->huge_page_bytes;

	if (huge >= HAK_TOPO_ALIGN_MIN && huge <= HAK_TOPO_ALIGN_MAX)
		return huge;
	if (huge < HAK_TOPO_ALIGN_MIN)
		return HAK_TOPO_ALIGN_MIN;
	for (uint32_t i = 0; i < draft->nodes; i++)
		for (uint32_t j = 0; j < draft->node[i].node.page_types; j++)
			sizes |= draft->node[i].node.page_type[j].bytes;
	/* Both limits are powers of two, and so is each size: keep the bits between them. */
	sizes &= 2 * HAK_TOPO_ALIGN_MAX - HAK_TOPO_ALIGN_MIN;
	return sizes ? (uint64_t)1 << (63 - __builtin_clzll(sizes)) : HAK_TOPO_ALIGN_MIN;
}

/* A table of the lowest level is one base page of 8-byte entries, each of which maps one. */
static void choose_page_sizes(struct hak_draft *draft)
{
	uint64_t base = draft->this_machine ? (uint64_t)sysconf(_SC_PAGESIZE) : 0;

	for (uint32_t i = 0; !base && i < draft->nodes; i++)
		if (draft->node[i].node.page_types)
			base = draft->node[i].node.page_type[0].bytes;
	draft->base_page_bytes = base ? base : 4096;
	if (!draft->this_machine && !draft->huge_page_bytes)
		draft->huge_page_bytes = draft->base_page_bytes * (draft->base_page_bytes / 8);
}

/* ---- packing ---- */

static void *take(unsigned char *base, size_t *used, size_t bytes)
{
	size_t at = (*used + 7) & ~(size_t)7;

	*used = at + bytes;
	return base ? base + at : NULL;
}

/* Called twice: without a base to learn the size, then to fill it in. */
static size_t lay_out(const struct hak_draft *draft, unsigned char *base)
{
	size_t used = 0, mask_bytes = (draft->cpus + 63) / 64 * 8;
	struct hak_topology *topology = take(base, &used, sizeof(*topology));
	struct hak_topo_node *node = take(base, &used, draft->nodes * sizeof(*node));
	uint32_t *distances =
		take(base, &used, (size_t)draft->nodes * draft->nodes * sizeof(*distances));
	unsigned char *masks = take(base, &used, draft->nodes * mask_bytes);
	uint16_t *cpu_node = take(base, &used, draft->cpus * sizeof(*cpu_node));
	uint16_t *spills = take(base, &used, (size_t)draft->nodes * draft->nodes * sizeof(*spills));

	if (!base)
		return used;
	*topology = (struct hak_topology){
		.abi = HAK_TOPO_ABI,
		.source = draft->source,
		.this_machine = draft->this_machine,
		.nodes = draft->nodes,
		.cpus = draft->cpus,
		.mask_bytes = (uint32_t)mask_bytes,
		.base_page_bytes = draft->base_page_bytes,
		.huge_page_bytes = draft->huge_page_bytes,
		.thp_sizes = draft->thp_sizes,
		.align_bytes = choose_align(draft),
		.node = node,
		.cpu_node = cpu_node,
	};
	for (uint32_t i = 0; i < draft->nodes; i++) {
		node[i] = draft->node[i].node;
		node[i].distance = distances + (size_t)i * draft->nodes;
		node[i].cpus = masks + i * mask_bytes;
		node[i].spill = spills + (size_t)i * draft->nodes;
		node[i].spills = choose_spills(draft, i, spills + (size_t)i * draft->nodes);
		for (uint32_t j = 0; j < draft->nodes; j++)
			distances[i * draft->nodes + j] = distance(draft, i, j);
	}
	for (uint32_t cpu = 0; cpu < draft->cpus; cpu++) {
		const struct hak_draft_node *own = hak_draft_find(draft, draft->cpu_os_node[cpu]);
		unsigned long *mask;

		cpu_node[cpu] = own ? (uint16_t)(own - draft->node) : HAK_TOPO_NO_NODE;
		if (!own)
			continue;
		/* The kernel's masks are words, which matters where the byte order is big-endian. */
		mask = (unsigned long *)(void *)(masks + (size_t)(own - draft->node) * mask_bytes);
		mask[cpu / (8 * sizeof(*mask))] |= 1ul << cpu % (8 * sizeof(*mask));
	}
	return used;
}

static void *map_pages(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int pack(const struct hak_draft *draft, void *(*map)(size_t bytes), struct hak_topology **out)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t bytes = (lay_out(draft, NULL) + page - 1) & ~(page - 1);
	unsigned char *base = (map ? map : map_pages)(bytes);

	if (!base)
		return -ENOMEM;
	lay_out(draft, base);
	*out = (struct hak_topology *)(void *)base;
	(*out)->bytes = bytes;
	/* Only a guard: a snapshot that stays writable is as good. */
	(void)mprotect(base, bytes, PROT_READ);
	return 0;
}

/* ---- loading ---- */

static int find_this_machine(struct hak_draft *draft)
{
	int error = -ENOTSUP;

	if (hak_hwloc_usable())
		error = hak_hwloc_machine(draft);
	if (error) {
		char *text = draft->text;

		/* Whatever hwloc found so far is not to be mixed with what sysfs says. */
		draft->text = NULL;
		hak_draft_fini(draft);
		*draft = (struct hak_draft){ .text = text };
		error = hak_sysfs_nodes(draft, "");
	}
	if (!error)
		error = hak_sysfs_cpus(draft, "");
	if (error)
		return error;
	hak_sysfs_huge_pages(draft, "");
	hak_self_allowed(draft);
	hak_self_distances(draft);
	draft->this_machine = true;
	return 0;
}

static int find_in_folder(struct hak_draft *draft, const char *root)
{
	int error = hak_sysfs_nodes(draft, root);

	if (!error)
		error = hak_sysfs_cpus(draft, root);
	if (error)
		return error;
	hak_sysfs_huge_pages(draft, root);
	hak_sysfs_allowed(draft, root);
	return 0;
}

static const char *after(const char *text, const char *prefix)
{
	size_t length = strlen(prefix);

	return strncmp(text, prefix, length) == 0 ? text + length : NULL;
}

static int find(struct hak_draft *draft, const char *source)
{
	const char *rest;

	if (!source)
		return find_this_machine(draft);
	if ((rest = after(source, "sysfs:")))
		return find_in_folder(draft, rest);
	if (!hak_hwloc_usable())
		return -ENOTSUP;
	if ((rest = after(source, "synthetic:")))
		return hak_hwloc_synthetic(draft, rest);
	return hak_hwloc_xml(draft, source);
}

static int load(const char *source, void *(*map)(size_t bytes), struct hak_topology **out)
{
	struct hak_draft draft;
	int error = hak_draft_init(&draft);

	if (!error)
		error = find(&draft, source);
	if (!error) {
		for (uint32_t cpu = 0; cpu < draft.cpus; cpu++) {
			struct hak_draft_node *own = hak_draft_find(&draft, draft.cpu_os_node[cpu]);

			if (own)
				own->node.has_cpus = true;
		}
		choose_kinds(&draft);
		choose_page_sizes(&draft);
		error = pack(&draft, map, out);
	}
	hak_draft_fini(&draft);
	return error;
}

/* ---- the entry ---- */

__attribute__((visibility("default"))) const struct hak_topo_ops *hak_topo_open(unsigned abi)
{
	static struct hak_topo_ops ops = {
		.abi = HAK_TOPO_ABI,
		.load = load,
#if HAVE_LIBURING
		.ring = &hak_topo_ring,
#endif
	};

	if (abi != HAK_TOPO_ABI)
		return NULL;
	/* The same values whoever writes them, so two first calls at a time do no harm. */
	__atomic_store_n(&ops.features,
			 (hak_hwloc_usable() ? HAK_TOPO_HAS_HWLOC : 0u) |
				 (HAVE_LIBNUMA ? HAK_TOPO_HAS_LIBNUMA : 0u) |
				 (HAVE_LIBURING ? HAK_TOPO_HAS_LIBURING : 0u),
			 __ATOMIC_RELAXED);
	return &ops;
}
