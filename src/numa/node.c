/* SPDX-License-Identifier: MIT */
/* Which node a thread is on, and how memory is bound to one. */
#include "numa/node.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>

#include "counters.h"
#include "options.h"
#include "sys/sys.h"
#include "topo/topo.h"

struct hak_node hak_nodes[HAK_NODES] = {
	[0 ... HAK_NODES - 1] = { .lock = HAK_LOCK_INIT(HAK_RANK_NODE), .park_lock = HAK_LOCK_INIT(HAK_RANK_PARK) }
};
_Atomic uint32_t hak_node_count;

unsigned hak_node_here(void)
{
	unsigned node = 0;
	/* relaxed: asking in vain costs a vDSO call */
	if (atomic_load_explicit(&hak_node_count, memory_order_relaxed) == 1)
		return 0;
	if (hak_sys.getcpu(NULL, &node) || node >= HAK_NODES)
		return 0;
	return node;
}

/* Counts the nodes of a list like "0-3,8". */
static uint32_t count_list(const char *s)
{
	uint32_t n = 0;
	while (*s >= '0' && *s <= '9') {
		unsigned long a = 0, b;
		while (*s >= '0' && *s <= '9')
			a = a * 10 + (unsigned long)(*s++ - '0');
		b = a;
		if (*s == '-')
			for (b = 0, s++; *s >= '0' && *s <= '9';)
				b = b * 10 + (unsigned long)(*s++ - '0');
		n += (uint32_t)(b - a + 1);
		if (*s == ',')
			s++;
	}
	return n;
}

static uint32_t node_count(void)
{
	char list[256];
	uint32_t n = atomic_load_explicit(&hak_node_count, memory_order_relaxed);
	if (n)
		return n;
	n = 1;
	if (hak_sys.read_file("/sys/devices/system/node/has_memory", list, sizeof list) > 0)
		n = (uint32_t)hak_max(1, count_list(list));
	/* relaxed: any thread reads the same */
	atomic_store_explicit(&hak_node_count, n, memory_order_relaxed);
	return n;
}

void hak_node_bind(unsigned node, void *p, size_t bytes)
{
	unsigned long mask[HAK_NODES / 64] = { 0 };
	int mode = MPOL_DEFAULT;
	if (!hak_option_get(HAK_OPT_bind) || node_count() < 2)
		return;
	/* numactl's or the program's own policy wins */
	if (hak_sys.get_mempolicy(&mode, NULL, 0, NULL, 0) == 0 && mode != MPOL_DEFAULT)
		return;
	mask[node / 64] |= 1ul << (node % 64);
	if (hak_sys.mbind(p, bytes, MPOL_PREFERRED, mask, HAK_NODES + 1, 0) == 0)
		hak_count(binds, 1);
	else
		hak_count(bind_failures, 1);
}

void hak_node_topology(const struct hak_topology *topology)
{
	uint32_t n = 0;
	for (uint32_t i = 0; topology->this_machine && i < topology->nodes; i++)
		n += topology->node[i].memory_bytes != 0;
	/* memory may have come since the count was taken, or /sys was not there; it never falls:
	 * heaps of other nodes than 0 would be left. relaxed: a thread that looks late is no worse */
	if (n > node_count())
		atomic_store_explicit(&hak_node_count, n, memory_order_relaxed);
}
