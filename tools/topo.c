/* SPDX-License-Identifier: MIT */
/* hakmem topo: the machine as hakmem sees it, by libhakmem-topo. */
#include "tool.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "topo/topo.h"

static const char *const kinds[] = { "DRAM", "HBM", "other", "CXL" };
static const char *const sources[] = HAK_TOPO_SOURCE_NAMES;

static bool json;
static const char *source;

static error_t parse(int key, char *arg, struct argp_state *state)
{
	if (key != 'j')
		return args_one(key, arg, state, &source);
	json = true;
	return 0;
}

/* The CPUs of a mask as a list like "0-3,8". */
static char *cpu_list(const struct hak_topology *t, const struct hak_topo_node *n)
{
	char *text = NULL;
	size_t bytes;
	FILE *f = open_memstream(&text, &bytes);
	const char *comma = "";
	for (uint32_t c = 0; f && c < t->cpus; c++) {
		uint32_t end = c;
		while (end < t->cpus && (n->cpus[end / 8] >> end % 8 & 1))
			end++;
		if (end == c)
			continue;
		fprintf(f, end == c + 1 ? "%s%" PRIu32 : "%s%" PRIu32 "-%" PRIu32, comma, c, end - 1);
		comma = ",";
		c = end;
	}
	if (f)
		fclose(f);
	return text;
}

/* ---- JSON ------------------------------------------------------------------------ */

static json_t *integer(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static json_t *node_json(const struct hak_topology *t, const struct hak_topo_node *n)
{
	char *cpus = cpu_list(t, n);
	json_t *pages = json_array(), *spill = json_array(), *distance = json_array();
	for (uint32_t i = 0; i < n->page_types; i++)
		json_array_append_new(pages, json_pack("{s:o, s:o}", "bytes", integer(n->page_type[i].bytes), "count",
						       integer(n->page_type[i].count)));
	for (uint32_t i = 0; i < n->spills; i++)
		json_array_append_new(spill, integer(t->node[n->spill[i]].os_index));
	for (uint32_t i = 0; i < t->nodes; i++)
		json_array_append_new(distance, integer(n->distance[i]));
	json_t *o = json_pack("{s:i, s:s, s:o, s:s, s:b, s:o, s:o, s:o, s:o, s:o}", "node", (int)n->os_index, "kind",
			      kinds[n->kind], "memory", integer(n->memory_bytes), "cpus", cpus ? cpus : "", "allowed",
			      (int)n->allowed, "bandwidth_mibs", integer(n->bandwidth_mibs), "latency_ns",
			      integer(n->latency_ns), "pages", pages, "distance", distance, "spill", spill);
	free(cpus);
	return o;
}

static json_t *machine_json(const struct hak_topology *t)
{
	json_t *nodes = json_array(), *kernel = json_array();
	for (uint32_t i = 0; i < t->nodes; i++)
		json_array_append_new(nodes, node_json(t, &t->node[i]));
	for (size_t i = 0; t->this_machine && i < kernel_probe_count; i++) {
		int why = kernel_try(&kernel_probes[i]);
		json_array_append_new(kernel, json_pack("{s:s, s:b, s:s}", "call", kernel_probes[i].name, "works", why == 0,
							"why", kernel_why(why)));
	}
	return json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:s, s:o, s:o}", "source", sources[t->source], "this_machine",
			 (int)t->this_machine, "cpus", integer(t->cpus), "page", integer(t->base_page_bytes), "huge_page",
			 integer(t->huge_page_bytes), "alignment", integer(t->align_bytes), "thp",
			 t->this_machine ? kernel_choice("/sys/kernel/mm/transparent_hugepage/enabled") : "", "nodes", nodes,
			 "kernel", kernel);
}

/* ---- for people ------------------------------------------------------------------ */

static void print_nodes(const struct hak_topology *t)
{
	printf("\n%s%4s  %-5s %10s  %-16s %-8s %-12s %s%s\n", text_bold(), "NODE", "KIND", "MEMORY", "CPUS", "ALLOWED",
	       "FULL: NEXT", "PAGES NOW", text_plain());
	for (uint32_t i = 0; i < t->nodes; i++) {
		const struct hak_topo_node *n = &t->node[i];
		char *cpus = cpu_list(t, n), spill[64] = "";
		for (uint32_t k = 0, at = 0; k < n->spills && at + 8 < sizeof spill; k++)
			at += (uint32_t)snprintf(spill + at, sizeof spill - at, "%s%u", k ? " " : "", t->node[n->spill[k]].os_index);
		printf("%4u  %-5s %10s  %-16s %-8s %-12s ", n->os_index, kinds[n->kind], text_bytes((double)n->memory_bytes),
		       cpus && *cpus ? cpus : "-", n->allowed ? "yes" : "no", *spill ? spill : "-");
		for (uint32_t k = 0; k < n->page_types; k++)
			printf("%s%s of %s", k ? ", " : "", text_bytes((double)(n->page_type[k].bytes * n->page_type[k].count)),
			       text_bytes((double)n->page_type[k].bytes));
		putchar('\n');
		free(cpus);
	}
}

static void print_distances(const struct hak_topology *t)
{
	if (t->nodes < 2)
		return;
	printf("\n%sdistances%s\n     ", text_bold(), text_plain());
	for (uint32_t i = 0; i < t->nodes; i++)
		printf("%5u", t->node[i].os_index);
	for (uint32_t i = 0; i < t->nodes; i++) {
		printf("\n%5u", t->node[i].os_index);
		for (uint32_t k = 0; k < t->nodes; k++)
			printf("%5" PRIu32, t->node[i].distance[k]);
	}
	putchar('\n');
}

static void print_kernel(void)
{
	printf("\n%swhat the kernel allows here%s\n", text_bold(), text_plain());
	for (size_t i = 0; i < kernel_probe_count; i++) {
		const struct probe *p = &kernel_probes[i];
		int why = kernel_try(p);
		if (why)
			printf("  %sno%s   %-21s %s; instead: %s\n", text_red(), text_plain(), p->name, kernel_why(why), p->without);
		else
			printf("  %syes%s  %-21s %s\n", text_green(), text_plain(), p->name, p->use);
	}
}

static void print_machine(const struct hak_topology *t)
{
	const char *thp = kernel_choice("/sys/kernel/mm/transparent_hugepage/enabled");
	printf("%u node%s, %u CPUs, from %s\n", t->nodes, t->nodes == 1 ? "" : "s", t->cpus, sources[t->source]);
	printf("pages of %s", text_bytes((double)t->base_page_bytes));
	if (t->huge_page_bytes)
		printf(", huge pages of %s", text_bytes((double)t->huge_page_bytes));
	if (t->this_machine)
		printf(" (transparent: %s)", *thp ? thp : "not in this kernel");
	printf("; SuperSlabs are aligned to %s\n", text_bytes((double)t->align_bytes));
	print_nodes(t);
	print_distances(t);
	if (t->this_machine)
		print_kernel();
}

static const struct hak_topo_ops *open_library(void)
{
	const char *path = files_library("libhakmem-topo.so");
	void *library = dlopen(path ? path : "libhakmem-topo.so", RTLD_NOW | RTLD_LOCAL);
	const struct hak_topo_ops *(*open)(unsigned abi) = NULL;
	if (library)
		open = (const struct hak_topo_ops *(*)(unsigned))dlsym(library, "hak_topo_open");
	if (!open) {
		tool_warn("%s", dlerror());
		return NULL;
	}
	const struct hak_topo_ops *ops = open(HAK_TOPO_ABI);
	if (!ops)
		tool_warn("libhakmem-topo.so is of another version than this tool");
	return ops;
}

int tool_topo(int argc, char **argv)
{
	static const struct argp_option flags[] = {
		{ "json", 'j', NULL, 0, "Print one JSON object", 0 },
		{ 0 },
	};
	static const struct argp argp = { flags, parse, "[TOPOLOGY]",
					  "Prints nodes, memory, distances and huge pages as hakmem sees them, and what the "
					  "kernel allows. TOPOLOGY instead of this machine: synthetic:DESCRIPTION, an XML file "
					  "of lstopo, or sysfs:FOLDER.", NULL, NULL, NULL };
	struct hak_topology *t;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	const struct hak_topo_ops *ops = open_library();
	if (!ops)
		return TOOL_FAILED;
	int err = ops->load(source, NULL, &t);
	if (err) {
		tool_warn("%s: %s", source ? source : "this machine",
			  err == -ENOTSUP ? "needs hwloc, which this libhakmem-topo was built without" : strerror(-err));
		return TOOL_FAILED;
	}
	if (json) {
		json_t *o = machine_json(t);
		text_json(o, stdout);
		json_decref(o);
	} else {
		print_machine(t);
	}
	return TOOL_OK;
}
