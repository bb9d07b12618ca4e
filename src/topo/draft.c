/* SPDX-License-Identifier: MIT */
/* A machine while it is being found out: the growing tables behind draft.h. */
#include "draft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int hak_draft_init(struct hak_draft *draft)
{
	memset(draft, 0, sizeof(*draft));
	draft->text = malloc(HAK_DRAFT_TEXT_BYTES);
	return draft->text ? 0 : -ENOMEM;
}

void hak_draft_fini(struct hak_draft *draft)
{
	free(draft->node);
	free(draft->distance);
	free(draft->cpu_os_node);
	free(draft->text);
}

/* Kept in ascending order of os_index, whatever the order in which a source names them. */
int hak_draft_add_node(struct hak_draft *draft, uint32_t os_index, struct hak_draft_node **out)
{
	struct hak_draft_node *node;
	uint32_t at = draft->nodes;

	if (at == HAK_DRAFT_NODES_MAX || os_index >= HAK_TOPO_NO_NODE)
		return -E2BIG;
	node = realloc(draft->node, (at + 1) * sizeof(*node));
	if (!node)
		return -ENOMEM;
	draft->node = node;
	while (at > 0 && node[at - 1].node.os_index > os_index)
		at--;
	if (at > 0 && node[at - 1].node.os_index == os_index)
		return -EINVAL;
	memmove(&node[at + 1], &node[at], (draft->nodes - at) * sizeof(*node));
	memset(&node[at], 0, sizeof(*node));
	node[at].node.os_index = (uint16_t)os_index;
	draft->nodes++;
	*out = &node[at];
	return 0;
}

int hak_draft_add_distances(struct hak_draft *draft)
{
	draft->distance = calloc((size_t)draft->nodes * draft->nodes, sizeof(*draft->distance));
	return draft->distance ? 0 : -ENOMEM;
}

int hak_draft_set_cpu(struct hak_draft *draft, uint32_t cpu, uint32_t os_node)
{
	if (cpu >= HAK_DRAFT_CPUS_MAX)
		return -E2BIG;
	if (cpu >= draft->cpus) {
		/* Room for a power of two: CPUs are told one by one. */
		uint32_t room = 64;
		uint16_t *map;

		while (room <= cpu)
			room *= 2;
		map = realloc(draft->cpu_os_node, room * sizeof(*map));
		if (!map)
			return -ENOMEM;
		for (uint32_t i = draft->cpus; i < room; i++)
			map[i] = HAK_TOPO_NO_NODE;
		draft->cpu_os_node = map;
		draft->cpus = cpu + 1;
	}
	draft->cpu_os_node[cpu] = (uint16_t)os_node;
	return 0;
}

/* Smallest first; what does not fit any more are the largest, which no allocator uses. */
void hak_draft_add_pages(struct hak_draft_node *node, uint64_t bytes, uint64_t count)
{
	struct hak_page_type *type = node->node.page_type;
	uint32_t at = node->node.page_types;

	if (bytes == 0 || (bytes & (bytes - 1)))
		return;
	while (at > 0 && type[at - 1].bytes > bytes)
		at--;
	if (at == HAK_TOPO_PAGE_TYPES)
		return;
	if (node->node.page_types == HAK_TOPO_PAGE_TYPES)
		node->node.page_types--;
	memmove(&type[at + 1], &type[at], (node->node.page_types - at) * sizeof(*type));
	type[at] = (struct hak_page_type){ .bytes = bytes, .count = count };
	node->node.page_types++;
}

struct hak_draft_node *hak_draft_find(const struct hak_draft *draft, uint32_t os_index)
{
	for (uint32_t i = 0; i < draft->nodes; i++)
		if (draft->node[i].node.os_index == os_index)
			return &draft->node[i];
	return NULL;
}
