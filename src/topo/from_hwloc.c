/* SPDX-License-Identifier: MIT */
/*
 * What does hwloc say of a machine: this one, a synthetic one, one that lstopo saved?
 *
 * A load is kept cheap: no I/O, no caches, no instruction-level discovery (which would bind the
 * calling thread to each CPU in turn), nothing but NUMA nodes and CPUs. hwloc's environment
 * variables stay the user's. What cannot be prevented without touching them is that hwloc opens
 * its plugins, where such are installed; none of them is asked anything.
 */
#include "draft.h"

#include <errno.h>

#if HAVE_HWLOC

#include <hwloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HWLOC_MAJOR(version) ((version) >> 16)

/* A program may have mapped another hwloc, whose symbols then stand before ours. */
bool hak_hwloc_usable(void)
{
	return HWLOC_MAJOR(hwloc_get_api_version()) == HWLOC_MAJOR(HWLOC_API_VERSION);
}

static void set_flags(hwloc_topology_t topology, bool machine)
{
	unsigned long flags = HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED;
	unsigned long old = flags;

#if HWLOC_API_VERSION >= 0x00020500
	if (machine)
		flags |= HWLOC_TOPOLOGY_FLAG_DONT_CHANGE_BINDING;
#endif
#if HWLOC_API_VERSION >= 0x00020800
	flags |= HWLOC_TOPOLOGY_FLAG_NO_CPUKINDS;
#endif
	(void)machine;
	/* The hwloc that is loaded may be older than the header and refuse what it does not know. */
	if (hwloc_topology_set_flags(topology, flags))
		(void)hwloc_topology_set_flags(topology, old);
}

static void set_components(hwloc_topology_t topology)
{
	static const char *const unwanted[] = { "x86",	"pci",	"opencl", "cuda",
						"nvml", "rsmi", "levelzero", "gl" };

	/* Fails for those that are not there, which is as good. */
	for (size_t i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++)
		(void)hwloc_topology_set_components(
			topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, unwanted[i]);
}

/*
 * On this machine sysfs says which CPUs a node has, so nothing but nodes and CPUs is asked for. In
 * a description a node's CPUs, and those that its attributes are measured from, are those of the
 * objects around it: these must stay.
 */
static void set_filters(hwloc_topology_t topology, bool machine)
{
	if (machine)
		(void)hwloc_topology_set_all_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
}

static enum hak_draft_hint hint_of(const char *subtype)
{
	if (!subtype)
		return HAK_HINT_NONE;
	if (strstr(subtype, "CXL"))
		return HAK_HINT_CXL;
	if (strstr(subtype, "MCDRAM") || strstr(subtype, "HBM"))
		return HAK_HINT_HBM;
	if (strstr(subtype, "NVM") || strstr(subtype, "GPU"))
		return HAK_HINT_OTHER;
	if (strcmp(subtype, "DRAM") == 0)
		return HAK_HINT_DRAM;
	return HAK_HINT_NONE;
}

/* The value between a node and the CPUs that it serves best; 0 when nothing is known. */
static uint32_t best_value(hwloc_topology_t topology, hwloc_obj_t node, hwloc_memattr_id_t both,
			   hwloc_memattr_id_t read)
{
	struct hwloc_location initiator;
	hwloc_uint64_t value;

	if (hwloc_memattr_get_best_initiator(topology, both, node, 0, &initiator, &value) &&
	    hwloc_memattr_get_best_initiator(topology, read, node, 0, &initiator, &value))
		return 0;
	return value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

static int add_nodes(struct hak_draft *draft, hwloc_topology_t topology)
{
	hwloc_const_nodeset_t allowed = hwloc_topology_get_allowed_nodeset(topology);
	hwloc_obj_t object = NULL;

	while ((object = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, object))) {
		const struct hwloc_numanode_attr_s *attr = &object->attr->numanode;
		struct hak_draft_node *node;
		int error = hak_draft_add_node(draft, object->os_index, &node);

		if (error)
			return error;
		node->node.memory_bytes = attr->local_memory;
		node->node.allowed = hwloc_bitmap_isset(allowed, object->os_index);
		node->hint = hint_of(object->subtype);
		for (unsigned i = 0; i < attr->page_types_len; i++)
			hak_draft_add_pages(node, attr->page_types[i].size,
					    attr->page_types[i].count);
		node->node.bandwidth_mibs = best_value(topology, object, HWLOC_MEMATTR_ID_BANDWIDTH,
						       HWLOC_MEMATTR_ID_READ_BANDWIDTH);
		node->node.latency_ns = best_value(topology, object, HWLOC_MEMATTR_ID_LATENCY,
						   HWLOC_MEMATTR_ID_READ_LATENCY);
	}
	return draft->nodes ? 0 : -EINVAL;
}

/*
 * hwloc gives a node without CPUs those of its nearest node, and on-package memory shares its
 * CPUs with the DRAM beside it. A CPU's own node is the one that a program would call so: not
 * HBM, CXL or other if there is a choice, then the one with the lowest number.
 */
static bool is_rather_own(const struct hak_draft_node *a, const struct hak_draft_node *b)
{
	int rank_a = a->hint > HAK_HINT_DRAM, rank_b = b->hint > HAK_HINT_DRAM;

	return rank_a != rank_b ? rank_a < rank_b : a->node.os_index < b->node.os_index;
}

static int add_cpus(struct hak_draft *draft, hwloc_topology_t topology)
{
	hwloc_obj_t object = NULL;

	while ((object = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, object))) {
		const struct hak_draft_node *node = hak_draft_find(draft, object->os_index), *now;
		unsigned cpu;

		hwloc_bitmap_foreach_begin(cpu, object->cpuset)
		{
			int error;

			now = cpu < draft->cpus ? hak_draft_find(draft, draft->cpu_os_node[cpu])
						: NULL;
			if (now && !is_rather_own(node, now))
				continue;
			error = hak_draft_set_cpu(draft, cpu, object->os_index);
			if (error)
				return error;
		}
		hwloc_bitmap_foreach_end();
	}
	return 0;
}

/* Several matrices may be there; the kernel's is called NUMALatency. */
static int add_distances(struct hak_draft *draft, hwloc_topology_t topology)
{
	struct hwloc_distances_s *found = NULL;
	unsigned count = 1;
	int error = 0;

	if (hwloc_distances_get_by_name(topology, "NUMALatency", &count, &found, 0) || !found) {
		count = 1;
		if (hwloc_distances_get_by_type(topology, HWLOC_OBJ_NUMANODE, &count, &found,
						HWLOC_DISTANCES_KIND_MEANS_LATENCY, 0) ||
		    !found)
			return 0;
	}
	error = hak_draft_add_distances(draft);
	for (unsigned i = 0; !error && i < found->nbobjs; i++) {
		for (unsigned j = 0; j < found->nbobjs; j++) {
			const struct hak_draft_node *from, *to;
			uint64_t value = found->values[i * found->nbobjs + j];

			if (!found->objs[i] || !found->objs[j])
				continue;
			from = hak_draft_find(draft, found->objs[i]->os_index);
			to = hak_draft_find(draft, found->objs[j]->os_index);
			if (from && to)
				draft->distance[(from - draft->node) * draft->nodes +
						(to - draft->node)] =
					value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
		}
	}
	hwloc_distances_release(topology, found);
	return error;
}

/* hwloc says no more than -1 and perhaps errno: what it could not load is not a topology. */
static int load(struct hak_draft *draft, const char *description, const char *path)
{
	bool machine = !description && !path;
	hwloc_topology_t topology;
	int error = -EINVAL;

	if (hwloc_topology_init(&topology))
		return -ENOMEM;
	set_components(topology);
	set_flags(topology, machine);
	set_filters(topology, machine);
	if (description && hwloc_topology_set_synthetic(topology, description))
		goto out;
	if (path && hwloc_topology_set_xml(topology, path))
		goto out;
	if (hwloc_topology_load(topology))
		goto out;
	/* HWLOC_XMLFILE and the like in the environment put another machine in place of this. */
	if (machine && !hwloc_topology_is_thissystem(topology)) {
		error = -EXDEV;
		goto out;
	}
	error = add_nodes(draft, topology);
	if (!error)
		error = add_cpus(draft, topology);
	if (!error)
		error = add_distances(draft, topology);
out:
	hwloc_topology_destroy(topology);
	return error;
}

int hak_hwloc_machine(struct hak_draft *draft)
{
	draft->source = HAK_TOPO_HWLOC;
	return load(draft, NULL, NULL);
}

/*
 * hwloc compares each new object with its siblings, so that 8,192 CPUs in one row cost it seconds
 * and a million hours, in which the program's reclaimer does nothing else. At this bound it is two
 * seconds at most. Counted are the factors after ':' or in front, as hwloc reads them; what
 * stands in round brackets is a level's attributes.
 */
#define SYNTHETIC_CPUS_MAX 4096ul

static bool is_small(const char *description)
{
	unsigned long cpus = 1;
	bool first = true; /* of its word */
	for (const char *c = description; *c; c++) {
		if (*c == '(' && !(c = strchr(c, ')')))
			return true; /* hwloc says what is wrong */
		bool number = *c == ':' || (first && *c >= '0' && *c <= '9');
		unsigned long factor = number ? strtoul(*c == ':' ? c + 1 : c, NULL, 0) : 1;
		first = strchr(" \n[])", *c) != NULL;
		if (factor > SYNTHETIC_CPUS_MAX || (factor && (cpus *= factor) > SYNTHETIC_CPUS_MAX))
			return false;
	}
	return true;
}

int hak_hwloc_synthetic(struct hak_draft *draft, const char *description)
{
	draft->source = HAK_TOPO_SYNTHETIC;
	return is_small(description) ? load(draft, description, NULL) : -E2BIG;
}

/* lstopo gives all but devices four sets, and hwloc (2.9) dies where one is missing. */
static bool object_is_whole(const char *tag)
{
	static const char *const devices[] = { "\"PCIDev\"", "\"Bridge\"", "\"OSDev\"", "\"Misc\"" };
	static const char *const sets[] = { " cpuset=\"", " complete_cpuset=\"", " nodeset=\"", " complete_nodeset=\"" };
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
		if (strstr(tag, devices[i]))
			return true;
	for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
		if (!strstr(tag, sets[i]))
			return false;
	return true;
}

/* Files of hwloc 1 have other sets. */
static bool is_whole(const char *path)
{
	static const char version[] = "<topology version=\"";
	char *tag = NULL;
	size_t room = 0;
	bool known = false, whole = true;
	FILE *f = fopen(path, "re");
	while (whole && f && getdelim(&tag, &room, '>', f) > 0) {
		const char *object = strstr(tag, "<object"), *topology = strstr(tag, version);
		known |= topology && topology[sizeof version - 1] >= '2';
		whole = !object || object_is_whole(object);
	}
	free(tag);
	if (f)
		fclose(f);
	return known && whole;
}

int hak_hwloc_xml(struct hak_draft *draft, const char *path)
{
	draft->source = HAK_TOPO_XML;
	if (access(path, R_OK))
		return -errno;
	return is_whole(path) ? load(draft, NULL, path) : -EINVAL;
}

#else /* built without hwloc */

bool hak_hwloc_usable(void)
{
	return false;
}

int hak_hwloc_machine(struct hak_draft *draft)
{
	(void)draft;
	return -ENOTSUP;
}

int hak_hwloc_synthetic(struct hak_draft *draft, const char *description)
{
	(void)draft, (void)description;
	return -ENOTSUP;
}

int hak_hwloc_xml(struct hak_draft *draft, const char *path)
{
	(void)draft, (void)path;
	return -ENOTSUP;
}

#endif
