/* SPDX-License-Identifier: MIT */
/*
 * Does libhakmem-topo.so tell the truth about machines?
 *
 * Linked with the library itself, through its one door. Machines are descriptions in hwloc's
 * syntax, files in tests/topologies, and folders laid out like sysfs that the test makes. What
 * needs hwloc is skipped, and said so, where the library was built without.
 */
#include "topo/topo.h"

#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define MIB ((size_t)1 << 20)

static const struct hak_topo_ops *ops(void)
{
	return hak_topo_open(HAK_TOPO_ABI);
}

/* ---- machines ---- */

static void drop(struct hak_topology *t)
{
	ck_assert_int_eq(munmap(t, t->bytes), 0);
}

static bool is_inside(const struct hak_topology *t, const void *p, size_t bytes)
{
	uintptr_t low = (uintptr_t)t, at = (uintptr_t)p;

	return at >= low && at + bytes <= low + t->bytes;
}

/* What holds for every snapshot, whatever the machine. */
static void check_snapshot(const struct hak_topology *t)
{
	uint32_t with_cpus = 0;

	ck_assert_uint_eq(t->abi, HAK_TOPO_ABI);
	ck_assert_uint_gt(t->nodes, 0);
	ck_assert_uint_eq(t->mask_bytes % 8, 0);
	ck_assert_uint_ge(t->mask_bytes * 8, t->cpus);
	ck_assert(is_inside(t, t->node, t->nodes * sizeof(*t->node)));
	ck_assert(is_inside(t, t->cpu_node, t->cpus * sizeof(*t->cpu_node)));
	ck_assert_uint_eq(t->base_page_bytes & (t->base_page_bytes - 1), 0);
	ck_assert_uint_eq(t->align_bytes & (t->align_bytes - 1), 0);
	ck_assert_uint_ge(t->align_bytes, HAK_TOPO_ALIGN_MIN);
	ck_assert_uint_le(t->align_bytes, HAK_TOPO_ALIGN_MAX);
	for (uint32_t i = 0; i < t->nodes; i++) {
		const struct hak_topo_node *node = &t->node[i];
		uint32_t usable = 0;
		bool cpus = false;

		ck_assert(is_inside(t, node->cpus, t->mask_bytes));
		ck_assert(is_inside(t, node->spill, node->spills * sizeof(*node->spill)));
		ck_assert(is_inside(t, node->distance, t->nodes * sizeof(*node->distance)));
		ck_assert(i == 0 || t->node[i - 1].os_index < node->os_index);
		for (uint32_t cpu = 0; cpu < t->mask_bytes * 8; cpu++) {
			const unsigned long *mask = (const unsigned long *)(const void *)node->cpus;
			bool own = mask[cpu / 64] >> cpu % 64 & 1;

			EXPECT(own == (cpu < t->cpus && t->cpu_node[cpu] == i),
			       "mask and map differ about CPU %u and node %u", cpu, i);
			cpus |= own;
		}
		ck_assert_int_eq(node->has_cpus, cpus);
		with_cpus += cpus;
		for (uint32_t j = 0; j < t->nodes; j++)
			usable += j != i && t->node[j].allowed && t->node[j].memory_bytes;
		ck_assert_uint_eq(node->spills, usable);
		for (uint32_t j = 0; j < node->spills; j++) {
			ck_assert_uint_ne(node->spill[j], i);
			for (uint32_t k = 0; k < j; k++)
				ck_assert_uint_ne(node->spill[j], node->spill[k]);
		}
		for (uint32_t j = 1; j < node->page_types; j++)
			ck_assert_uint_lt(node->page_type[j - 1].bytes, node->page_type[j].bytes);
	}
	ck_assert_uint_gt(with_cpus, 0);
}

static struct hak_topology *load(const char *source)
{
	struct hak_topology *t = NULL;
	int error = ops()->load(source, NULL, &t);

	ck_assert_msg(error == 0, "%s: %s", source ? source : "this machine", strerror(-error));
	check_snapshot(t);
	ck_assert_int_eq(t->this_machine, source == NULL);
	return t;
}

/* Automake says where the sources are; without it the program runs in their root. */
static struct hak_topology *load_file(const char *name)
{
	const char *folder = getenv("srcdir");
	char path[4096];

	snprintf(path, sizeof(path), "%s/tests/topologies/%s.xml", folder ? folder : ".", name);
	return load(path);
}

/* The error that it is refused with. */
static int refusal(const char *source)
{
	struct hak_topology *t = NULL;
	int error = ops()->load(source, NULL, &t);

	ck_assert_ptr_null(t);
	return error;
}

START_TEST(another_abi_is_refused)
{
	ck_assert_ptr_null(hak_topo_open(HAK_TOPO_ABI + 1));
	ck_assert_ptr_null(hak_topo_open(0));
	ck_assert_ptr_nonnull(hak_topo_open(HAK_TOPO_ABI));
	ck_assert_uint_eq(ops()->abi, HAK_TOPO_ABI);
}
END_TEST

START_TEST(this_machine_is_what_the_kernel_says)
{
	struct hak_topology *t = load(NULL);
	cpu_set_t allowed;

	ck_assert_uint_eq(t->base_page_bytes, (uint64_t)sysconf(_SC_PAGESIZE));
	ck_assert_int_eq(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
	for (uint32_t cpu = 0; cpu < t->cpus && cpu < CPU_SETSIZE; cpu++) {
		unsigned on_cpu, on_node;
		cpu_set_t one;

		if (!CPU_ISSET(cpu, &allowed))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
		ck_assert_int_eq((int)syscall(SYS_getcpu, &on_cpu, &on_node, NULL), 0);
		ck_assert_uint_eq(on_cpu, cpu);
		ck_assert_uint_ne(t->cpu_node[cpu], HAK_TOPO_NO_NODE);
		ck_assert_uint_eq(t->node[t->cpu_node[cpu]].os_index, on_node);
	}
	ck_assert_int_eq(sched_setaffinity(0, sizeof(allowed), &allowed), 0);
	drop(t);
}
END_TEST

/* Two ways to the same machine: hwloc with the kernel's help, and sysfs alone. */
START_TEST(hwloc_and_sysfs_agree_about_this_machine)
{
	struct hak_topology *a = load(NULL), *b = load("sysfs:");

	ck_assert_uint_eq(a->nodes, b->nodes);
	ck_assert_uint_eq(a->cpus, b->cpus);
	ck_assert_uint_eq(a->huge_page_bytes, b->huge_page_bytes);
	ck_assert_uint_eq(a->align_bytes, b->align_bytes);
	for (uint32_t i = 0; i < a->nodes; i++) {
		const struct hak_topo_node *x = &a->node[i], *y = &b->node[i];

		ck_assert_uint_eq(x->os_index, y->os_index);
		ck_assert_int_eq(x->has_cpus, y->has_cpus);
		ck_assert_int_eq(x->allowed, y->allowed);
		ck_assert_uint_eq(x->memory_bytes, y->memory_bytes);
		ck_assert_uint_eq(x->page_types, y->page_types);
		for (uint32_t j = 0; j < x->page_types; j++)
			ck_assert_uint_eq(x->page_type[j].bytes, y->page_type[j].bytes);
		ck_assert_mem_eq(x->cpus, y->cpus, a->mask_bytes);
		ck_assert_mem_eq(x->distance, y->distance, a->nodes * sizeof(*x->distance));
	}
	drop(a);
	drop(b);
}
END_TEST

static size_t mapped_bytes;

static void *count_pages(size_t bytes)
{
	mapped_bytes = bytes;
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void *no_pages(size_t bytes)
{
	(void)bytes;
	return NULL;
}

START_TEST(a_snapshot_lies_in_the_callers_pages)
{
	struct hak_topology *t = NULL;

	ck_assert_int_eq(ops()->load(NULL, count_pages, &t), 0);
	check_snapshot(t);
	ck_assert_uint_eq(t->bytes, mapped_bytes);
	drop(t);
	ck_assert_int_eq(ops()->load(NULL, no_pages, &t), -ENOMEM);
}
END_TEST

START_TEST(a_snapshot_cannot_be_written)
{
	struct hak_topology *t = load(NULL);
	int zero = open("/dev/zero", O_RDONLY);

	/* Asked of the kernel: a sanitizer makes something else of the signal. */
	ck_assert_int_ge(zero, 0);
	ck_assert_int_eq((int)read(zero, t, t->bytes), -1);
	ck_assert_int_eq(errno, EFAULT);
	close(zero);
	drop(t);
}
END_TEST

START_TEST(loading_does_not_move_the_thread)
{
	cpu_set_t before, one, after;

	ck_assert_int_eq(sched_getaffinity(0, sizeof(before), &before), 0);
	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&one); cpu++)
		if (CPU_ISSET(cpu, &before))
			CPU_SET(cpu, &one);
	ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
	drop(load(NULL));
	ck_assert_int_eq(sched_getaffinity(0, sizeof(after), &after), 0);
	ck_assert(CPU_EQUAL(&one, &after));
	ck_assert_int_eq(sched_setaffinity(0, sizeof(before), &before), 0);
}
END_TEST

/* Another machine in the user's environment is for the user's own hwloc, not for us. */
START_TEST(hwlocs_environment_does_not_change_this_machine)
{
	struct hak_topology *before = load(NULL), *after;

	ck_assert_int_eq(setenv("HWLOC_SYNTHETIC", "numa:7 pu:3", 1), 0);
	after = load(NULL);
	ck_assert_uint_eq(after->nodes, before->nodes);
	ck_assert_uint_eq(after->cpus, before->cpus);
	ck_assert_str_eq(getenv("HWLOC_SYNTHETIC"), "numa:7 pu:3");
	drop(before);
	drop(after);
}
END_TEST

/* ---- what the rules make of machines ---- */

static size_t say_cpus(const struct hak_topology *t, uint32_t node, char *to, size_t room)
{
	size_t length = 0;

	for (uint32_t cpu = 0, end; cpu < t->cpus; cpu = end) {
		for (end = cpu; end < t->cpus && t->cpu_node[end] == node; end++)
			;
		if (end > cpu)
			length += (size_t)snprintf(to + length, room - length, " %u-%u", cpu, end - 1);
		else
			end++;
	}
	return length;
}

/*
 * Each node's number, kind (and a ! if it is not allowed), its CPUs, and in brackets whose memory is
 * taken when it is full: "0 DRAM 0-3 (1); 1 CXL (0)".
 */
static void say(const struct hak_topology *t, char *to, size_t room)
{
	static const char *const kinds[] = { "DRAM", "HBM", "OTHER", "CXL" };
	size_t length = 0;

	for (uint32_t i = 0; i < t->nodes; i++) {
		const struct hak_topo_node *node = &t->node[i];

		length += (size_t)snprintf(to + length, room - length, "%s%u %s%s", i ? "; " : "", node->os_index,
					   kinds[node->kind], node->allowed ? "" : "!");
		length += say_cpus(t, i, to + length, room - length);
		for (uint32_t k = 0; k < node->spills; k++)
			length += (size_t)snprintf(to + length, room - length, "%s%u", k ? " " : " (",
						   t->node[node->spill[k]].os_index);
		if (node->spills)
			length += (size_t)snprintf(to + length, room - length, ")");
	}
	ck_assert_uint_lt(length, room);
}

static void check_machine(const char *name, const struct hak_topology *t, const char *want)
{
	char is[1024] = "";

	say(t, is, sizeof(is));
	ck_assert_msg(strcmp(is, want) == 0, "%s: %s, not %s", name, is, want);
}

static struct hak_topology *load_described(const char *source)
{
	bool synthetic = strncmp(source, "synthetic:", 10) == 0;
	struct hak_topology *t = synthetic ? load(source) : load_file(source);

	ck_assert_uint_eq(t->source, synthetic ? HAK_TOPO_SYNTHETIC : HAK_TOPO_XML);
	return t;
}

/* Descriptions in hwloc's syntax, and files of tests/topologies. */
static const struct {
	const char *name, *source, *is;
} machines[] = {
	{ "a laptop", "synthetic:numa:1 core:4 pu:2", "0 DRAM 0-7" },
	{ "two sockets", "synthetic:pack:2 [numa(memory=4GiB)] core:4 pu:1", "0 DRAM 0-3 (1); 1 DRAM 4-7 (0)" },
	{ "two nodes inside each socket", "synthetic:pack:2 group:2 [numa(memory=4GiB)] core:2 pu:2",
	  "0 DRAM 0-3 (1 2 3); 1 DRAM 4-7 (0 2 3); 2 DRAM 8-11 (0 1 3); 3 DRAM 12-15 (0 1 2)" },
	{ "eight sockets: by distance, not by number", "eight-sockets",
	  "0 DRAM 0-1 (1 4 5 2 3 6 7); 1 DRAM 2-3 (0 5 4 2 3 6 7); 2 DRAM 4-5 (3 6 7 0 1 4 5); "
	  "3 DRAM 6-7 (2 7 6 0 1 4 5); 4 DRAM 8-9 (5 0 1 2 3 6 7); 5 DRAM 10-11 (4 1 0 2 3 6 7); "
	  "6 DRAM 12-13 (7 2 3 0 1 4 5); 7 DRAM 14-15 (6 3 2 0 1 4 5)" },
	{ "Knights Landing in four clusters, flat", "knights-landing",
	  "0 DRAM 0-7 (1 2 3 4 5 6 7); 1 DRAM 8-15 (0 2 3 5 4 6 7); 2 DRAM 16-23 (0 1 3 6 4 5 7); "
	  "3 DRAM 24-31 (0 1 2 7 4 5 6); 4 HBM (0 1 2 3 5 6 7); 5 HBM (1 0 2 3 4 6 7); "
	  "6 HBM (2 0 1 3 4 5 7); 7 HBM (3 0 1 2 4 5 6)" },
	{ "on-package memory beside DRAM", "hbm", "0 DRAM 0-3 (1); 1 HBM (0)" },
	{ "on-package memory that is node 0", "hbm-first", "0 HBM (1); 1 DRAM 0-3 (0)" },
	/* nearer to node 1 than node 0 is, and yet last. hwloc gives it the CPUs of node 1 */
	{ "a node without CPUs, recorded", "memory-only", "0 DRAM 0-1 (1 2); 1 DRAM 2-3 (0 2); 2 OTHER (1 0)" },
	{ "slow memory by its bandwidth", "cxl-bandwidth", "0 DRAM 0-1 (1 2); 1 DRAM 2-3 (0 2); 2 CXL (1 0)" },
	{ "slow memory by its latency", "cxl-latency", "0 DRAM 0-1 (1 2); 1 DRAM 2-3 (0 2); 2 CXL (1 0)" },
	{ "slow memory by both", "cxl", "0 DRAM 0-1 (1 2); 1 DRAM 2-3 (0 2); 2 CXL (1 0)" },
	{ "on-package memory before CXL", "hbm-and-cxl", "0 DRAM 0-3 (2 1); 1 CXL (0 2); 2 HBM (0 1)" },
	{ "a container that sees a part of sparse nodes", "container",
	  "0 DRAM 0-1 (16); 8 DRAM! 2-3 (0 16); 16 DRAM 4-5 (0)" },
};

START_TEST(machines_are_what_they_are)
{
	for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++) {
		struct hak_topology *t = load_described(machines[i].source);

		check_machine(machines[i].name, t, machines[i].is);
		drop(t);
	}
}
END_TEST

START_TEST(more_nodes_than_a_word_has_bits)
{
	struct hak_topology *t = load("synthetic:pack:80 [numa(memory=1GiB)] pu:2");

	ck_assert_uint_eq(t->nodes, 80);
	ck_assert_uint_eq(t->cpus, 160);
	ck_assert_uint_eq(t->mask_bytes, 24);
	ck_assert_uint_eq(t->cpu_node[159], 79);
	ck_assert_uint_eq(t->node[0].spills, 79);
	drop(t);
}
END_TEST

/* A node's memory: its size; what it reaches, where the source says so; how far each node is; its page
 * types, how many of each: "4096 MiB, 130000 MiB/s, 90 ns; 10 20; 1048576 of 4 KiB, 225 of 2048 KiB". */
static void say_memory(const struct hak_topology *t, uint32_t node, char *to, size_t room)
{
	const struct hak_topo_node *n = &t->node[node];
	size_t length = (size_t)snprintf(to, room, "%llu MiB", (unsigned long long)(n->memory_bytes / MIB));

	if (n->bandwidth_mibs)
		length += (size_t)snprintf(to + length, room - length, ", %u MiB/s", n->bandwidth_mibs);
	if (n->latency_ns)
		length += (size_t)snprintf(to + length, room - length, ", %u ns", n->latency_ns);
	for (uint32_t i = 0; i < t->nodes; i++)
		length += (size_t)snprintf(to + length, room - length, "%s%u", i ? " " : "; ", n->distance[i]);
	for (uint32_t i = 0; i < n->page_types; i++)
		length += (size_t)snprintf(to + length, room - length, "%s%llu of %llu KiB", i ? ", " : "; ",
					   (unsigned long long)n->page_type[i].count,
					   (unsigned long long)n->page_type[i].bytes / 1024);
	ck_assert_uint_lt(length, room);
}

static const struct {
	const char *source;
	uint32_t node;
	const char *is;
} memories[] = {
	{ "synthetic:pack:2 [numa(memory=4GiB)] core:4 pu:1", 1, "4096 MiB; 20 10; 1048576 of 4 KiB" },
	{ "memory-only", 1, "503 MiB; 21 10 17; 13658 of 4 KiB, 225 of 2048 KiB, 0 of 1048576 KiB" },
	{ "memory-only", 2, "502 MiB; 34 17 10; 128687 of 4 KiB, 0 of 2048 KiB, 0 of 1048576 KiB" },
	{ "cxl-bandwidth", 0, "470 MiB, 130000 MiB/s; 10 21 34; 120495 of 4 KiB, 0 of 2048 KiB, 0 of 1048576 KiB" },
	{ "cxl-bandwidth", 2, "502 MiB, 30000 MiB/s; 34 17 10; 128687 of 4 KiB, 0 of 2048 KiB, 0 of 1048576 KiB" },
	{ "cxl-latency", 0, "470 MiB, 90 ns; 10 21 34; 120495 of 4 KiB, 0 of 2048 KiB, 0 of 1048576 KiB" },
	{ "cxl-latency", 2, "502 MiB, 250 ns; 34 17 10; 128687 of 4 KiB, 0 of 2048 KiB, 0 of 1048576 KiB" },
	{ "hbm", 1, "15258 MiB, 400000 MiB/s; 20 10; 3906250 of 4 KiB" },
	{ "knights-landing", 4, "3814 MiB; 31 41 41 41 10 41 41 41; 976562 of 4 KiB" },
};

START_TEST(memory_is_what_it_is)
{
	for (size_t i = 0; i < sizeof(memories) / sizeof(memories[0]); i++) {
		struct hak_topology *t = load_described(memories[i].source);
		char is[256];

		say_memory(t, memories[i].node, is, sizeof(is));
		ck_assert_msg(strcmp(is, memories[i].is) == 0, "%s, node %u: %s, not %s", memories[i].source,
			      memories[i].node, is, memories[i].is);
		drop(t);
	}
}
END_TEST

START_TEST(what_is_no_topology_is_refused)
{
	ck_assert_int_eq(refusal("synthetic:numa:"), -EINVAL);
	ck_assert_int_eq(refusal("synthetic:numa:2(memory=1GiB pu:1"), -EINVAL);
	ck_assert_int_eq(refusal("/nonexistent.xml"), -ENOENT);
	ck_assert_int_lt(refusal("/proc/self/exe"), 0);
	ck_assert_int_lt(refusal(""), 0);
}
END_TEST

/* hwloc takes hours for a million. */
START_TEST(synthetic_machines_have_a_limit)
{
	static const char *const large[] = { "pu:1000000", "pu:-1", "numa:64 core:64 pu:2", "2 4 1024", "pu:0x2000",
					     "pack:2 [numa:2(memory=1GiB)] core:2048(indexes=1,2) pu:2" };
	for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++) {
		char source[128];

		snprintf(source, sizeof(source), "synthetic:%s", large[i]);
		ck_assert_int_eq(refusal(source), -E2BIG);
	}
	drop(load("synthetic:numa:64(memory=1048576MiB) core:32 pu:2"));
}
END_TEST

/* hwloc dies of it. */
START_TEST(objects_without_their_sets_are_refused)
{
	static const char *const sets[] = { "cpuset", "complete_cpuset", "nodeset", "complete_nodeset" };
	/* the machine's, then the node's; 8: none */
	for (size_t left_out = 0; left_out <= 8; left_out++) {
		char path[] = "/tmp/test_topo.XXXXXX";
		FILE *f = fdopen(mkstemp(path), "w");

		ck_assert_ptr_nonnull(f);
		fprintf(f, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n"
			   "<topology version=\"2.0\">\n  <object type=\"Machine\" os_index=\"0\"");
		for (size_t i = 0; i < 4; i++)
			if (i != left_out)
				fprintf(f, " %s=\"0x00000001\"", sets[i]);
		fprintf(f, " gp_index=\"1\">\n    <object type=\"NUMANode\" os_index=\"0\" gp_index=\"2\" "
			   "local_memory=\"1073741824\"");
		for (size_t i = 0; i < 4; i++)
			if (i + 4 != left_out)
				fprintf(f, " %s=\"0x00000001\"", sets[i]);
		fprintf(f, "/>\n    <object type=\"PU\" os_index=\"0\" cpuset=\"0x00000001\" complete_cpuset=\"0x00000001\" "
			   "nodeset=\"0x00000001\" complete_nodeset=\"0x00000001\" gp_index=\"3\"/>\n  </object>\n</topology>\n");
		fclose(f);
		if (left_out < 8)
			ck_assert_int_eq(refusal(path), -EINVAL);
		else
			drop(load(path));
		unlink(path);
	}
}
END_TEST

START_TEST(without_hwloc_descriptions_are_refused)
{
	ck_assert_int_eq(refusal("synthetic:numa:2 pu:1"), -ENOTSUP);
	ck_assert_int_eq(refusal("/etc/passwd"), -ENOTSUP);
}
END_TEST

/* ---- folders laid out like sysfs ---- */

static char root[32], root_source[40];

static void make_root(void)
{
	strcpy(root, "/tmp/test_topo.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	snprintf(root_source, sizeof(root_source), "sysfs:%s", root);
}

static void put(const char *path, const char *text)
{
	char full[512];
	FILE *file;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		ck_assert(mkdir(full, 0700) == 0 || errno == EEXIST);
		*slash = '/';
	}
	file = fopen(full, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
}

static void put_node(unsigned os_index, const char *cpus, unsigned mib, const char *distances)
{
	char path[128], text[256];

	snprintf(path, sizeof(path), "sys/devices/system/node/node%u/cpulist", os_index);
	put(path, cpus);
	snprintf(path, sizeof(path), "sys/devices/system/node/node%u/meminfo", os_index);
	snprintf(text, sizeof(text), "Node %u MemTotal:   %8u kB\nNode %u MemFree:  1 kB\n",
		 os_index, mib * 1024, os_index);
	put(path, text);
	snprintf(path, sizeof(path), "sys/devices/system/node/node%u/distance", os_index);
	put(path, distances);
}

static void remove_root(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", root);
	ck_assert_int_eq(system(command), 0);
}

START_TEST(sysfs_alone_is_enough)
{
	struct hak_topology *t;
	char memory[256];

	make_root();
	put("sys/devices/system/node/online", "0,8,252-253\n");
	put_node(0, "0-3,8-11\n", 1024, "10 40 80 60\n");
	put_node(8, "4-7,12-15\n", 1024, "40 10 60 80\n");
	put_node(252, "\n", 2048, "80 60 10 20\n"); /* memory without CPUs */
	put_node(253, "16,18\n", 0, "60 80 20 10\n"); /* CPUs without memory */
	put("sys/devices/system/node/node8/hugepages/hugepages-2048kB/nr_hugepages", "100\n");
	put("sys/devices/system/node/node8/hugepages/hugepages-1048576kB/nr_hugepages", "0\n");
	put("sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n");
	put("sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled", "never\n");
	put("sys/kernel/mm/transparent_hugepage/hugepages-2048kB/enabled", "never\n");
	put("proc/self/status", "Name:\tx\nMems_allowed:\t0\nMems_allowed_list:\t0,8,252\n");
	t = load(root_source);
	ck_assert_uint_eq(t->source, HAK_TOPO_SYSFS);
	check_machine("sysfs", t,
		      "0 DRAM 0-3 8-11 (8 252); 8 DRAM 4-7 12-15 (0 252); 252 OTHER (8 0); 253 DRAM! 16-16 18-18 (0 8 252)");
	ck_assert_uint_eq(t->cpu_node[17], HAK_TOPO_NO_NODE);
	say_memory(t, 1, memory, sizeof(memory));
	ck_assert_str_eq(memory, "1024 MiB; 40 10 60 80; 210944 of 4 KiB, 100 of 2048 KiB, 0 of 1048576 KiB");
	say_memory(t, 3, memory, sizeof(memory));
	ck_assert_str_eq(memory, "0 MiB; 60 80 20 10; 0 of 4 KiB");
	ck_assert_uint_eq(t->thp_sizes, 65536 | 2 * MIB);
	ck_assert_uint_eq(t->align_bytes, 2 * MIB);
	drop(t);

	/* 64 KiB pages: the huge page is too large to align to, so the folios decide. */
	put("sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "536870912\n");
	put("sys/kernel/mm/transparent_hugepage/hugepages-16384kB/enabled", "never\n");
	t = load(root_source);
	ck_assert_uint_eq(t->huge_page_bytes, 512 * MIB);
	ck_assert_uint_eq(t->align_bytes, 16 * MIB);
	drop(t);
	remove_root();
}
END_TEST

START_TEST(a_kernel_without_numa_is_one_node)
{
	struct hak_topology *t;

	make_root();
	put("proc/meminfo", "MemTotal:        2048 kB\nMemFree:  7 kB\n");
	put("sys/devices/system/cpu/online", "0-2\n");
	t = load(root_source);
	check_machine("no NUMA", t, "0 DRAM 0-2");
	ck_assert_uint_eq(t->node[0].memory_bytes, 2 * MIB);
	drop(t);
	remove_root();
	ck_assert_int_eq(refusal(root_source), -ENOENT);
}
END_TEST

/* The rule of topo.h for alignment, by what a kernel says: its base page, the huge page that it makes
 * by itself, huge pages to reserve (KiB), folio sizes (KiB). */
static const struct {
	const char *name;
	uint64_t huge_page_bytes;
	unsigned reserved_kib[4], folio_kib[8];
	uint64_t align_bytes;
} kernels[] = {
	{ "x86-64", 2 * MIB, { 2048, 1048576 }, { 2048 }, 2 * MIB },
	{ "x86-64 with smaller folios", 2 * MIB, { 2048, 1048576 }, { 16, 64, 1024, 2048 }, 2 * MIB },
	{ "x86-64 without huge pages", 0, { 0 }, { 0 }, 2 * MIB },
	{ "arm64, 16 KiB pages", 32 * MIB, { 2048, 32768, 1048576 }, { 32768 }, 32 * MIB },
	{ "arm64, 64 KiB pages", 512 * MIB, { 2048, 524288, 16777216 }, { 524288 }, 2 * MIB },
	{ "arm64, 64 KiB pages, 16 MiB folios", 512 * MIB, { 2048, 524288 }, { 128, 16384, 524288 }, 16 * MIB },
	{ "arm64, 64 KiB pages, all folios", 512 * MIB, { 2048, 524288 }, { 2048, 32768, 65536, 524288 }, 32 * MIB },
	{ "arm64, 64 KiB pages, only small folios", 512 * MIB, { 524288 }, { 128, 1024 }, 2 * MIB },
	{ "a huge page smaller than a SuperSlab", 1 * MIB, { 0 }, { 1024 }, 2 * MIB },
};

static void put_sizes(const char *folder, const char *file, const unsigned *kib, size_t count)
{
	char path[128];

	for (size_t i = 0; i < count && kib[i]; i++) {
		snprintf(path, sizeof(path), "%s/hugepages-%ukB/%s", folder, kib[i], file);
		put(path, "0\n");
	}
}

START_TEST(alignment_follows_the_page_sizes)
{
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		char text[32];

		make_root();
		put("sys/devices/system/node/online", "0\n");
		put_node(0, "0-3\n", 1024, "10\n");
		put_sizes("sys/devices/system/node/node0/hugepages", "nr_hugepages", kernels[i].reserved_kib, 4);
		put_sizes("sys/kernel/mm/transparent_hugepage", "enabled", kernels[i].folio_kib, 8);
		snprintf(text, sizeof(text), "%llu\n", (unsigned long long)kernels[i].huge_page_bytes);
		if (kernels[i].huge_page_bytes)
			put("sys/kernel/mm/transparent_hugepage/hpage_pmd_size", text);
		struct hak_topology *t = load(root_source);
		ck_assert_msg(t->align_bytes == kernels[i].align_bytes, "%s: %llu", kernels[i].name,
			      (unsigned long long)t->align_bytes);
		drop(t);
		remove_root();
	}
}
END_TEST

/* Where no kernel says what its huge page is: one table of base pages. */
START_TEST(a_recorded_machines_huge_page_follows_from_its_base_page)
{
	static const struct {
		const char *file;
		uint64_t base, huge;
	} files[] = { { "arm64-16k", 16384, 32 * MIB }, { "arm64-64k", 65536, 512 * MIB }, { "hbm", 4096, 2 * MIB } };

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		struct hak_topology *t = load_file(files[i].file);

		ck_assert_uint_eq(t->base_page_bytes, files[i].base);
		ck_assert_uint_eq(t->huge_page_bytes, files[i].huge);
		drop(t);
	}
}
END_TEST

START_TEST(nonsense_in_sysfs_is_refused)
{
	static const char *const online[] = { "\n", "0-4000000000\n", "0,0\n" };

	make_root();
	for (size_t i = 0; i < sizeof(online) / sizeof(online[0]); i++) {
		put("sys/devices/system/node/online", online[i]);
		ck_assert_int_eq(refusal(root_source), -EINVAL);
	}
	put("sys/devices/system/node/online", "0-1\n");
	put_node(0, "0\n", 1, "10\n");
	put_node(1, "1\n", 1, "20 10\n");
	ck_assert_int_eq(refusal(root_source), -EINVAL);
	remove_root();
}
END_TEST

static const char *no_hwloc(void)
{
	return ops()->features & HAK_TOPO_HAS_HWLOC ? NULL : "no hwloc";
}

SUITE("topo", 30, CALM(another_abi_is_refused), CALM(this_machine_is_what_the_kernel_says),
      CALM(hwloc_and_sysfs_agree_about_this_machine), CALM(a_snapshot_lies_in_the_callers_pages),
      CALM(a_snapshot_cannot_be_written), CALM(loading_does_not_move_the_thread), CALM(sysfs_alone_is_enough),
      CALM(a_kernel_without_numa_is_one_node), CALM(nonsense_in_sysfs_is_refused),
      CALM(alignment_follows_the_page_sizes), UNLESS(no_hwloc, hwlocs_environment_does_not_change_this_machine),
      UNLESS(no_hwloc, more_nodes_than_a_word_has_bits), UNLESS(no_hwloc, machines_are_what_they_are),
      UNLESS(no_hwloc, memory_is_what_it_is),
      UNLESS(no_hwloc, a_recorded_machines_huge_page_follows_from_its_base_page),
      UNLESS(no_hwloc, what_is_no_topology_is_refused), UNLESS(no_hwloc, synthetic_machines_have_a_limit), UNLESS(no_hwloc, objects_without_their_sets_are_refused), WHERE(no_hwloc, without_hwloc_descriptions_are_refused))
