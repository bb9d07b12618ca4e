/* SPDX-License-Identifier: MIT */
/*
 * A machine while it is being found out: what hwloc or sysfs say, before topo.c applies the rules
 * (kinds, spill order, alignment) and packs it into a snapshot. Inside libhakmem-topo.so only.
 */
#ifndef HAK_TOPO_DRAFT_H
#define HAK_TOPO_DRAFT_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

/* configure says HAK_HAVE_*; the short names serve builds of this folder alone. */
#ifdef HAK_HAVE_HWLOC
#define HAVE_HWLOC HAK_HAVE_HWLOC
#define HAVE_LIBNUMA HAK_HAVE_LIBNUMA
#define HAVE_LIBURING HAK_HAVE_LIBURING
#endif
/* Undefined would silently mean "without". */
#if !defined(HAVE_HWLOC) || !defined(HAVE_LIBNUMA) || !defined(HAVE_LIBURING)
#error "config.h must say 0 or 1 for hwloc, libnuma and liburing"
#endif

#include "topo.h"

#define HAK_DRAFT_NODES_MAX 1024u /* the kernel's own limit */
#define HAK_DRAFT_CPUS_MAX 16384u
#define HAK_DRAFT_TEXT_BYTES 65536u /* a list of every other CPU of the largest machine */

/* What the source itself calls a node's memory. */
enum hak_draft_hint { HAK_HINT_NONE, HAK_HINT_DRAM, HAK_HINT_HBM, HAK_HINT_CXL, HAK_HINT_OTHER };

struct hak_draft_node {
	struct hak_topo_node node; /* its three pointers are not used */
	enum hak_draft_hint hint;
};

struct hak_draft {
	uint32_t source;
	bool this_machine;
	uint32_t nodes;
	struct hak_draft_node *node; /* by position, in ascending order of os_index when packed */
	uint32_t *distance; /* nodes * nodes, 0 unknown; NULL until all nodes are known */
	uint32_t cpus;
	uint16_t *cpu_os_node; /* by CPU number: its node's os_index, or HAK_TOPO_NO_NODE */
	uint64_t base_page_bytes, huge_page_bytes, thp_sizes;
	char *text; /* HAK_DRAFT_TEXT_BYTES for reading files */
};

/* draft.c: 0 or -ENOMEM, -E2BIG */
int hak_draft_add_node(struct hak_draft *draft, uint32_t os_index, struct hak_draft_node **out);
int hak_draft_add_distances(struct hak_draft *draft);
int hak_draft_set_cpu(struct hak_draft *draft, uint32_t cpu, uint32_t os_node);
void hak_draft_add_pages(struct hak_draft_node *node, uint64_t bytes, uint64_t count);
struct hak_draft_node *hak_draft_find(const struct hak_draft *draft, uint32_t os_index);
int hak_draft_init(struct hak_draft *draft);
void hak_draft_fini(struct hak_draft *draft);

/* from_hwloc.c: the machine, or a description in hwloc's syntax, or a file */
bool hak_hwloc_usable(void);
int hak_hwloc_machine(struct hak_draft *draft);
int hak_hwloc_synthetic(struct hak_draft *draft, const char *description);
int hak_hwloc_xml(struct hak_draft *draft, const char *path);

/* from_sysfs.c: root is "" for this machine */
int hak_sysfs_nodes(struct hak_draft *draft, const char *root);
int hak_sysfs_cpus(struct hak_draft *draft, const char *root);
void hak_sysfs_huge_pages(struct hak_draft *draft, const char *root);
void hak_sysfs_allowed(struct hak_draft *draft, const char *root);

/* ring.c */
#if HAVE_LIBURING
extern const struct hak_ring_ops hak_topo_ring;
#endif

/* from_sysfs.c: what only the kernel or libnuma know of the running process and machine. */
void hak_self_allowed(struct hak_draft *draft);
void hak_self_distances(struct hak_draft *draft);

#endif
