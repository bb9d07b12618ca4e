/* SPDX-License-Identifier: MIT */
/*
 * Does libhakmem-topo.so tell the truth about machines, and does its ring really give memory back?
 *
 * Linked with the library itself, through its one door. Machines are descriptions in hwloc's
 * syntax, files in tests/topologies, and folders laid out like sysfs that the test makes. What
 * the library was built without, and a kernel without io_uring, are skipped and said so.
 */
#include "topo/topo.h"

#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define FOREVER UINT64_MAX

static const struct hak_topo_ops *ops;

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
	int error = ops->load(source, NULL, &t);

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

static void check_spill(const struct hak_topology *t, uint32_t from, const char *want)
{
	char have[256] = "";
	size_t length = 0;

	for (uint32_t i = 0; i < t->node[from].spills; i++)
		length += (size_t)snprintf(have + length, sizeof(have) - length, "%s%u",
					   i ? " " : "", t->node[t->node[from].spill[i]].os_index);
	ck_assert_str_eq(have, want);
}

START_TEST(another_abi_is_refused)
{
	ck_assert_ptr_null(hak_topo_open(HAK_TOPO_ABI + 1));
	ck_assert_ptr_null(hak_topo_open(0));
	ck_assert_ptr_nonnull(hak_topo_open(HAK_TOPO_ABI));
	ck_assert_uint_eq(ops->abi, HAK_TOPO_ABI);
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

	ck_assert_int_eq(ops->load(NULL, count_pages, &t), 0);
	check_snapshot(t);
	ck_assert_uint_eq(t->bytes, mapped_bytes);
	drop(t);
	ck_assert_int_eq(ops->load(NULL, no_pages, &t), -ENOMEM);
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

START_TEST(a_laptop)
{
	struct hak_topology *t = load("synthetic:numa:1 core:4 pu:2");

	ck_assert_uint_eq(t->source, HAK_TOPO_SYNTHETIC);
	ck_assert_uint_eq(t->nodes, 1);
	ck_assert_uint_eq(t->cpus, 8);
	ck_assert_uint_eq(t->node[0].spills, 0);
	ck_assert_uint_eq(t->node[0].kind, HAK_MEM_DRAM);
	ck_assert_uint_eq(t->huge_page_bytes, 2 * MIB);
	ck_assert_uint_eq(t->align_bytes, 2 * MIB);
	drop(t);
}
END_TEST

START_TEST(two_sockets)
{
	struct hak_topology *t = load("synthetic:pack:2 [numa(memory=4GiB)] core:4 pu:1");

	ck_assert_uint_eq(t->nodes, 2);
	ck_assert_uint_eq(t->cpus, 8);
	for (uint32_t cpu = 0; cpu < 8; cpu++)
		ck_assert_uint_eq(t->cpu_node[cpu], cpu / 4);
	ck_assert_uint_eq(t->node[1].memory_bytes, 4ull << 30);
	ck_assert_uint_eq(t->node[1].distance[0], 20);
	ck_assert_uint_eq(t->node[1].distance[1], 10);
	check_spill(t, 0, "1");
	check_spill(t, 1, "0");
	drop(t);
}
END_TEST

START_TEST(nodes_inside_a_socket)
{
	struct hak_topology *t = load("synthetic:pack:2 group:2 [numa] core:2 pu:2");

	ck_assert_uint_eq(t->nodes, 4);
	for (uint32_t cpu = 0; cpu < t->cpus; cpu++)
		ck_assert_uint_eq(t->cpu_node[cpu], cpu / 4);
	drop(t);
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

START_TEST(eight_sockets_spill_by_distance_not_by_number)
{
	struct hak_topology *t = load_file("eight-sockets");

	ck_assert_uint_eq(t->source, HAK_TOPO_XML);
	ck_assert_uint_eq(t->nodes, 8);
	ck_assert_uint_eq(t->node[0].distance[5], 24);
	check_spill(t, 0, "1 4 5 2 3 6 7");
	check_spill(t, 6, "7 2 3 0 1 4 5");
	drop(t);
}
END_TEST

/* Recorded in a machine whose node 2 has no CPUs; hwloc gives it those of node 1. */
START_TEST(a_node_without_cpus_comes_last_however_near)
{
	struct hak_topology *t = load_file("memory-only");

	ck_assert_uint_eq(t->nodes, 3);
	ck_assert(!t->node[2].has_cpus);
	ck_assert_uint_eq(t->cpu_node[2], 1);
	ck_assert_uint_eq(t->node[2].kind, HAK_MEM_OTHER);
	ck_assert_uint_eq(t->node[1].distance[2], 17);
	ck_assert_uint_eq(t->node[1].distance[0], 21);
	check_spill(t, 1, "0 2");
	check_spill(t, 2, "1 0");
	/* The recorded node 1 had 225 huge pages set aside. */
	ck_assert_uint_eq(t->node[1].page_type[1].bytes, 2 * MIB);
	ck_assert_uint_eq(t->node[1].page_type[1].count, 225);
	drop(t);
}
END_TEST

START_TEST(slow_memory_is_known_by_its_attributes)
{
	struct hak_topology *t = load_file("cxl-bandwidth");

	ck_assert_uint_eq(t->node[0].kind, HAK_MEM_DRAM);
	ck_assert_uint_eq(t->node[0].bandwidth_mibs, 130000);
	ck_assert_uint_eq(t->node[2].kind, HAK_MEM_CXL);
	ck_assert_uint_eq(t->node[2].bandwidth_mibs, 30000);
	drop(t);
	t = load_file("cxl-latency");
	ck_assert_uint_eq(t->node[0].kind, HAK_MEM_DRAM);
	ck_assert_uint_eq(t->node[0].latency_ns, 90);
	ck_assert_uint_eq(t->node[2].kind, HAK_MEM_CXL);
	ck_assert_uint_eq(t->node[2].latency_ns, 250);
	drop(t);
}
END_TEST

START_TEST(on_package_memory_is_not_the_cpus_own)
{
	struct hak_topology *t = load_file("hbm");

	ck_assert_uint_eq(t->nodes, 2);
	ck_assert_uint_eq(t->node[0].kind, HAK_MEM_DRAM);
	ck_assert_uint_eq(t->node[1].kind, HAK_MEM_HBM);
	ck_assert_uint_eq(t->node[1].bandwidth_mibs, 400000);
	ck_assert(!t->node[1].has_cpus);
	for (uint32_t cpu = 0; cpu < t->cpus; cpu++)
		ck_assert_uint_eq(t->cpu_node[cpu], 0);
	check_spill(t, 0, "1");
	drop(t);
	t = load_file("hbm-first");
	ck_assert_uint_eq(t->node[0].kind, HAK_MEM_HBM);
	ck_assert(!t->node[0].has_cpus && t->node[1].has_cpus);
	for (uint32_t cpu = 0; cpu < t->cpus; cpu++)
		ck_assert_uint_eq(t->cpu_node[cpu], 1);
	drop(t);
}
END_TEST

START_TEST(a_container_sees_a_part_of_sparse_nodes)
{
	struct hak_topology *t = load_file("container");

	ck_assert_uint_eq(t->nodes, 3);
	ck_assert_uint_eq(t->node[1].os_index, 8);
	ck_assert_uint_eq(t->node[2].os_index, 16);
	ck_assert(t->node[0].allowed && !t->node[1].allowed && t->node[2].allowed);
	check_spill(t, 0, "16");
	check_spill(t, 1, "0 16");
	drop(t);
}
END_TEST

START_TEST(alignment_follows_the_page_sizes)
{
	struct hak_topology *t = load_file("arm64-16k");

	ck_assert_uint_eq(t->base_page_bytes, 16384);
	ck_assert_uint_eq(t->huge_page_bytes, 32 * MIB);
	ck_assert_uint_eq(t->align_bytes, 32 * MIB);
	drop(t);
	t = load_file("arm64-64k");
	ck_assert_uint_eq(t->base_page_bytes, 65536);
	ck_assert_uint_eq(t->huge_page_bytes, 512 * MIB);
	ck_assert_uint_eq(t->align_bytes, 2 * MIB);
	drop(t);
}
END_TEST

START_TEST(what_is_no_topology_is_refused)
{
	struct hak_topology *t = NULL;

	ck_assert_int_eq(ops->load("synthetic:numa:", NULL, &t), -EINVAL);
	ck_assert_int_eq(ops->load("/nonexistent.xml", NULL, &t), -ENOENT);
	ck_assert_int_lt(ops->load("/proc/self/exe", NULL, &t), 0);
	ck_assert_int_lt(ops->load("", NULL, &t), 0);
	ck_assert_ptr_null(t);
}
END_TEST

START_TEST(without_hwloc_descriptions_are_refused)
{
	struct hak_topology *t = NULL;

	ck_assert_int_eq(ops->load("synthetic:numa:2 pu:1", NULL, &t), -ENOTSUP);
	ck_assert_int_eq(ops->load("/etc/passwd", NULL, &t), -ENOTSUP);
	ck_assert_ptr_null(t);
}
END_TEST

/* ---- folders laid out like sysfs ---- */

static char root[] = "/tmp/test_topo.XXXXXX";

static void put(const char *path, const char *text)
{
	char full[512];
	FILE *file;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	for (char *slash = full + sizeof(root); (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		ck_assert(mkdir(full, 0700) == 0 || errno == EEXIST);
		*slash = '/';
	}
	file = fopen(full, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
}

static struct hak_topology *load_root(void)
{
	char source[64];

	snprintf(source, sizeof(source), "sysfs:%s", root);
	return load(source);
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

	ck_assert_ptr_nonnull(mkdtemp(root));
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
	t = load_root();
	ck_assert_uint_eq(t->source, HAK_TOPO_SYSFS);
	ck_assert_uint_eq(t->nodes, 4);
	ck_assert_uint_eq(t->cpus, 19);
	ck_assert_uint_eq(t->cpu_node[9], 0);
	ck_assert_uint_eq(t->cpu_node[12], 1);
	ck_assert_uint_eq(t->cpu_node[17], HAK_TOPO_NO_NODE);
	ck_assert_uint_eq(t->cpu_node[18], 3);
	ck_assert(t->node[3].has_cpus && !t->node[2].has_cpus);
	ck_assert(t->node[2].allowed && !t->node[3].allowed);
	ck_assert_uint_eq(t->node[2].memory_bytes, 2048 * MIB);
	ck_assert_uint_eq(t->node[3].memory_bytes, 0);
	ck_assert_uint_eq(t->node[0].distance[2], 80);
	check_spill(t, 0, "8 252");
	check_spill(t, 3, "0 8 252");
	ck_assert_uint_eq(t->node[1].page_types, 3);
	ck_assert_uint_eq(t->node[1].page_type[1].count, 100);
	ck_assert_uint_eq(t->node[1].page_type[0].count,
			  (1024 - 200) * MIB / (size_t)sysconf(_SC_PAGESIZE));
	ck_assert_uint_eq(t->thp_sizes, 65536 | 2 * MIB);
	ck_assert_uint_eq(t->align_bytes, 2 * MIB);
	drop(t);

	/* 64 KiB pages: the huge page is too large to align to, so the folios decide. */
	put("sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "536870912\n");
	put("sys/kernel/mm/transparent_hugepage/hugepages-16384kB/enabled", "never\n");
	t = load_root();
	ck_assert_uint_eq(t->huge_page_bytes, 512 * MIB);
	ck_assert_uint_eq(t->align_bytes, 16 * MIB);
	drop(t);
	remove_root();
}
END_TEST

START_TEST(a_kernel_without_numa_is_one_node)
{
	struct hak_topology *t;
	char source[64];

	ck_assert_ptr_nonnull(mkdtemp(root));
	put("proc/meminfo", "MemTotal:        2048 kB\nMemFree:  7 kB\n");
	put("sys/devices/system/cpu/online", "0-2\n");
	t = load_root();
	ck_assert_uint_eq(t->nodes, 1);
	ck_assert_uint_eq(t->cpus, 3);
	ck_assert_uint_eq(t->node[0].memory_bytes, 2 * MIB);
	ck_assert(t->node[0].allowed);
	drop(t);
	remove_root();
	snprintf(source, sizeof(source), "sysfs:%s", root);
	ck_assert_int_eq(ops->load(source, NULL, &t), -ENOENT);
}
END_TEST

START_TEST(nonsense_in_sysfs_is_refused)
{
	struct hak_topology *t = NULL;
	char source[64];

	ck_assert_ptr_nonnull(mkdtemp(root));
	snprintf(source, sizeof(source), "sysfs:%s", root);
	put("sys/devices/system/node/online", "\n");
	ck_assert_int_eq(ops->load(source, NULL, &t), -EINVAL);
	put("sys/devices/system/node/online", "0-4000000000\n");
	ck_assert_int_eq(ops->load(source, NULL, &t), -EINVAL);
	put("sys/devices/system/node/online", "0,0\n");
	ck_assert_int_eq(ops->load(source, NULL, &t), -EINVAL);
	put("sys/devices/system/node/online", "0-1\n");
	put_node(0, "0\n", 1, "10\n");
	put_node(1, "1\n", 1, "20 10\n");
	ck_assert_int_eq(ops->load(source, NULL, &t), -EINVAL);
	ck_assert_ptr_null(t);
	remove_root();
}
END_TEST

/* ---- the ring ---- */

static const struct hak_ring_ops *ring_ops;

struct tally {
	unsigned calls;
	uint64_t seen; /* bit per token */
	int result[64];
};

static void tally(void *arg, uint64_t token, int result)
{
	struct tally *t = arg;

	ck_assert_uint_lt(token, 64);
	ck_assert_msg(!(t->seen >> token & 1), "token %u came twice", (unsigned)token);
	t->seen |= 1ull << token;
	t->result[token] = result;
	t->calls++;
}

static struct hak_ring *make_ring(void)
{
	struct hak_ring *ring = NULL;

	ck_assert_int_eq(ring_ops->create(HAK_RING_ENTRIES_MAX, &ring), 0);
	return ring;
}

static unsigned char *dirty_pages(size_t bytes)
{
	unsigned char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	memset(p, 0xa5, bytes);
	return p;
}

static size_t resident_pages(const void *p, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), count = 0;
	char name[64];
	int fd = open("/proc/self/pagemap", O_RDONLY);

	snprintf(name, sizeof(name), "%p", p);
	ck_assert_int_ge(fd, 0);
	for (size_t at = 0; at < bytes; at += page) {
		uint64_t entry = 0;

		ck_assert_int_eq((int)pread(fd, &entry, sizeof(entry),
					    (off_t)(((uintptr_t)p + at) / page * sizeof(entry))),
				 (int)sizeof(entry));
		count += entry >> 63;
	}
	close(fd);
	return count;
}

/* Gives 16 pieces of 64 KiB back, every second one, and looks at what is left. */
static void give_back(struct hak_ring *ring)
{
	const size_t piece = 65536, bytes = 32 * piece;
	const size_t pages = piece / (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *p = dirty_pages(bytes);
	struct hak_ring_request batch[16];
	struct tally t = { 0 };
	unsigned taken = 0;

	for (unsigned i = 0; i < 16; i++)
		batch[i] = (struct hak_ring_request){ p + 2 * i * piece, piece, MADV_DONTNEED, i };
	ck_assert_int_eq(ring_ops->submit(ring, batch, 16, &taken), 0);
	ck_assert_uint_eq(taken, 16);
	ck_assert_int_eq(ring_ops->wait(ring, 16, FOREVER, tally, &t), 0);
	ck_assert_uint_eq(t.calls, 16);
	ck_assert_uint_eq(t.seen, 0xffff);
	ck_assert_uint_eq(ring_ops->in_flight(ring), 0);
	for (unsigned i = 0; i < 32; i++) {
		bool freed = i % 2 == 0;

		ck_assert_int_eq(t.result[i / 2], 0);
		ck_assert_uint_eq(resident_pages(p + i * piece, piece), freed ? 0 : pages);
		for (size_t at = 0; at < piece; at += 509)
			EXPECT(p[i * piece + at] == (freed ? 0 : 0xa5), "piece %u, byte %zu", i, at);
	}
	munmap(p, bytes);
}

START_TEST(ring_gives_exactly_the_asked_pages_back)
{
	struct hak_ring *ring = make_ring();

	for (int round = 0; round < 20; round++)
		give_back(ring);
	ck_assert_int_eq(ring_ops->destroy(ring), 0);
}
END_TEST

START_TEST(ring_takes_as_many_as_it_has_entries)
{
	struct hak_ring *ring = NULL;
	struct hak_ring_request batch[9];
	unsigned char *p = dirty_pages(MIB);
	struct tally t = { 0 };
	unsigned taken = 99;

	ck_assert_int_eq(ring_ops->create(0, &ring), -EINVAL);
	ck_assert_int_eq(ring_ops->create(HAK_RING_ENTRIES_MAX + 1, &ring), -EINVAL);
	ck_assert_int_eq(ring_ops->create(8, &ring), 0);
	for (unsigned i = 0; i < 9; i++)
		batch[i] = (struct hak_ring_request){ p + i * 65536, 65536, MADV_DONTNEED, i };
	ck_assert_int_eq(ring_ops->submit(ring, batch, 9, &taken), -EAGAIN);
	ck_assert_uint_eq(taken, 0);
	ck_assert_int_eq(ring_ops->submit(ring, batch, 8, &taken), 0);
	ck_assert_uint_eq(ring_ops->in_flight(ring), 8);
	ck_assert_int_eq(ring_ops->submit(ring, batch + 8, 1, &taken), -EAGAIN);
	ck_assert_int_eq(ring_ops->destroy(ring), -EBUSY);
	ck_assert_int_eq(ring_ops->wait(ring, 8, FOREVER, tally, &t), 0);
	ck_assert_int_eq(ring_ops->submit(ring, batch + 8, 1, &taken), 0);
	ck_assert_int_eq(ring_ops->wait(ring, 99, FOREVER, tally, &t), 0);
	ck_assert_uint_eq(t.calls, 9);
	ck_assert_uint_eq(resident_pages(p, 9 * 65536), 0);
	ck_assert_uint_ne(resident_pages(p + 9 * 65536, MIB - 9 * 65536), 0);
	ck_assert_int_eq(ring_ops->destroy(ring), 0);
	munmap(p, MIB);
}
END_TEST

START_TEST(ring_refuses_a_batch_whole)
{
	struct hak_ring *ring = make_ring();
	unsigned char *p = dirty_pages(65536);
	struct hak_ring_request batch[2] = { { p, 65536, MADV_DONTNEED, 0 },
					     { p, 1ull << 32, MADV_DONTNEED, 1 } };
	struct tally t = { 0 };
	unsigned taken = 99;

	ck_assert_int_eq(ring_ops->submit(ring, batch, 2, &taken), -EINVAL);
	ck_assert_uint_eq(taken, 0);
	batch[1].bytes = 0;
	ck_assert_int_eq(ring_ops->submit(ring, batch, 2, &taken), -EINVAL);
	ck_assert_int_eq(ring_ops->wait(ring, 1, FOREVER, tally, &t), 0);
	ck_assert_uint_eq(t.calls, 0);
	ck_assert_int_eq(p[0], 0xa5);
	ck_assert_int_eq(ring_ops->destroy(ring), 0);
}
END_TEST

START_TEST(ring_hands_on_madvises_own_errors)
{
	struct hak_ring *ring = make_ring();
	unsigned char *p = dirty_pages(3 * 65536);
	struct hak_ring_request batch[3] = { { p, 65536, MADV_DONTNEED, 0 },
					     { p + 65536, 65536, MADV_DONTNEED, 1 },
					     { p + 2 * 65536, 65536, 0x7fff, 2 } };
	struct tally t = { 0 };
	unsigned taken;

	ck_assert_int_eq(munmap(p + 65536, 65536), 0);
	ck_assert_int_eq(ring_ops->submit(ring, batch, 3, &taken), 0);
	ck_assert_int_eq(ring_ops->wait(ring, 3, FOREVER, tally, &t), 0);
	ck_assert_int_eq(t.result[0], 0);
	ck_assert_int_eq(t.result[1], -ENOMEM);
	ck_assert_int_eq(t.result[2], -EINVAL);
	ck_assert_int_eq(p[0], 0);
	ck_assert_int_eq(p[2 * 65536], 0xa5);
	ck_assert_int_eq(ring_ops->destroy(ring), 0);
}
END_TEST

START_TEST(ring_waits_no_longer_than_told)
{
	struct hak_ring *ring = make_ring();
	const size_t bytes = 64 * MIB;
	unsigned char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct hak_ring_request one = { p, bytes, MADV_POPULATE_WRITE, 0 };
	struct tally t = { 0 };
	unsigned taken;
	int error;

	ck_assert_int_eq(ring_ops->wait(ring, 1, 0, tally, &t), 0);
	ck_assert_int_eq(ring_ops->submit(ring, &one, 1, &taken), 0);
	/* 16,384 page faults take longer than a microsecond. */
	error = ring_ops->wait(ring, 1, 1000, tally, &t);
	ck_assert_int_eq(error, -ETIME);
	ck_assert_uint_eq(t.calls, 0);
	while ((error = ring_ops->wait(ring, 1, 0, tally, &t)) == -ETIME)
		sched_yield();
	ck_assert_int_eq(error, 0);
	ck_assert_uint_eq(t.calls, 1);
	ck_assert_int_eq(t.result[0], 0);
	ck_assert_uint_eq(resident_pages(p, bytes), bytes / (size_t)sysconf(_SC_PAGESIZE));
	ck_assert_int_eq(ring_ops->destroy(ring), 0);
	munmap(p, bytes);
}
END_TEST

struct bound {
	const struct hak_topology *machine;
	uint32_t node;
};

static void *work_on_node(void *arg)
{
	const struct bound *bound = arg;
	const struct hak_topo_node *node = &bound->machine->node[bound->node];
	struct hak_ring *ring = make_ring();
	unsigned char *p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
				0);
	struct hak_ring_request one = { p, MIB, MADV_POPULATE_WRITE, 0 };
	struct tally t = { 0 };
	unsigned taken;

	ck_assert_int_eq(ring_ops->limit_workers(ring, 0), -EINVAL);
	ck_assert_int_eq(ring_ops->limit_workers(ring, 2), 0);
	ck_assert_int_eq(ring_ops->bind_workers(ring, node->cpus, bound->machine->mask_bytes), 0);
	ck_assert_int_eq(ring_ops->submit(ring, &one, 1, &taken), 0);
	ck_assert_int_eq(ring_ops->wait(ring, 1, FOREVER, tally, &t), 0);
	ck_assert_int_eq(t.result[0], 0);
	for (size_t at = 0; at < MIB; at += 4096) {
		void *page = p + at;
		int where = -1;

		ck_assert_int_eq((int)syscall(SYS_move_pages, 0, 1ul, &page, NULL, &where, 0), 0);
		EXPECT(where == node->os_index, "page on node %d, workers on node %u", where,
		       node->os_index);
	}
	munmap(p, MIB);
	ck_assert_int_eq(ring_ops->destroy(ring), 0);
	return NULL;
}

/*
 * First touch by the ring's own threads: their CPUs decide where the pages lie. A thread for each
 * node, because the kernel's threads are bound when they start.
 */
START_TEST(ring_works_on_the_cpus_it_was_given)
{
	struct hak_topology *machine = load(NULL);
	unsigned judged = 0;

	for (uint32_t i = 0; i < machine->nodes; i++) {
		const struct hak_topo_node *node = &machine->node[i];
		struct bound bound = { machine, i };
		pthread_t thread;

		if (!node->has_cpus || !node->allowed || !node->memory_bytes)
			continue;
		ck_assert_int_eq(pthread_create(&thread, NULL, work_on_node, &bound), 0);
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
		judged++;
	}
	ck_assert_uint_gt(judged, 0);
	drop(machine);
}
END_TEST

static int find_ring_descriptor(int from)
{
	char path[64], target[64];

	for (int fd = from; fd < 256; fd++) {
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		length = readlink(path, target, sizeof(target) - 1);
		if (length > 0 && (target[length] = '\0', strstr(target, "io_uring")))
			return fd;
	}
	return -1;
}

/* Daemons close every descriptor they do not know; others get the number next. */
static void lose_descriptor(int (*reuse)(void))
{
	struct hak_ring *ring = make_ring();
	unsigned traits = ring_ops->traits(ring);
	int fd = find_ring_descriptor(3), other;
	struct hak_ring_request one = { dirty_pages(65536), 65536, MADV_DONTNEED, 0 };
	unsigned char mask[8] = { 1 };
	unsigned taken;

	ck_assert_int_eq(fd < 0, !!(traits & HAK_RING_NO_DESCRIPTOR));
	if (fd < 0) {
		ck_assert_int_eq(ring_ops->destroy(ring), 0);
		return;
	}
	ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	ck_assert_int_eq(close(fd), 0);
	other = reuse ? reuse() : -1;
	ck_assert(!reuse || other == fd);
	ck_assert_int_eq(ring_ops->bind_workers(ring, mask, sizeof(mask)), -EBADF);
	ck_assert_int_eq(ring_ops->limit_workers(ring, 1), -EBADF);
	if (traits & HAK_RING_REGISTERED) {
		give_back(ring);
	} else {
		ck_assert_int_eq(ring_ops->submit(ring, &one, 1, &taken), -EBADF);
		ck_assert_uint_eq(taken, 0);
	}
	ck_assert_int_eq(ring_ops->destroy(ring), 0);
	if (reuse) {
		ck_assert_msg(fcntl(other, F_GETFD) >= 0, "the program's own file was closed");
		close(other);
	}
}

static int open_a_file(void)
{
	return open("/proc/self/status", O_RDONLY);
}

static int open_an_event(void)
{
	return (int)syscall(SYS_eventfd2, 0, 0);
}

START_TEST(ring_outlives_its_descriptor)
{
	lose_descriptor(NULL);
	lose_descriptor(open_a_file);
	lose_descriptor(open_an_event);
}
END_TEST

/* The kernel registers 16 rings of a thread; the next has to do without. */
START_TEST(ring_that_cannot_be_registered_notices_its_loss)
{
	struct hak_ring *ring[17];

	for (unsigned i = 0; i < 16; i++)
		ring[i] = make_ring();
	ring[16] = make_ring();
	if (!(ring_ops->traits(ring[16]) & HAK_RING_NO_DESCRIPTOR)) {
		int last = -1, fd = 3;
		struct hak_ring_request one = { dirty_pages(65536), 65536, MADV_DONTNEED, 0 };
		struct tally t = { 0 };
		unsigned taken;

		ck_assert(!(ring_ops->traits(ring[16]) & HAK_RING_REGISTERED));
		give_back(ring[16]);
		while ((fd = find_ring_descriptor(fd)) >= 0)
			last = fd++;
		ck_assert_int_eq(close(last), 0);
		ck_assert_int_eq(ring_ops->submit(ring[16], &one, 1, &taken), -EBADF);
		ck_assert_uint_eq(taken, 0);
		ck_assert_int_eq(ring_ops->wait(ring[16], 1, FOREVER, tally, &t), 0);
		ck_assert_int_eq(((unsigned char *)one.addr)[0], 0xa5);
	}
	for (unsigned i = 0; i < 17; i++)
		ck_assert_int_eq(ring_ops->destroy(ring[i]), 0);
}
END_TEST

START_TEST(ring_of_the_parent_is_forgotten_by_a_child)
{
	struct hak_ring *ring = make_ring();
	int status;
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		ring_ops->forget(ring);
		_exit(find_ring_descriptor(3) < 0 ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", status);
	give_back(ring);
	ck_assert_int_eq(ring_ops->destroy(ring), 0);
}
END_TEST

/* io_uring_setup is refused, and io_uring_enter when it is to submit just so many. */
static int deny_io_uring(unsigned submits)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_enter, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, submits, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) ? -errno : 0;
}

/* A range that was not taken is the caller's again: it must not be given back later. */
START_TEST(ring_forgets_what_the_kernel_refused)
{
	struct hak_ring *ring = make_ring();
	const size_t piece = 65536;
	unsigned char *p = dirty_pages(4 * piece);
	struct hak_ring_request batch[4];
	struct tally t = { 0 };
	unsigned taken = 99;

	for (unsigned i = 0; i < 4; i++)
		batch[i] = (struct hak_ring_request){ p + i * piece, piece, MADV_DONTNEED, i };
	ck_assert_int_eq(deny_io_uring(3), 0);
	ck_assert_int_eq(ring_ops->submit(ring, batch, 3, &taken), -EPERM);
	ck_assert_uint_eq(taken, 0);
	ck_assert_uint_eq(ring_ops->in_flight(ring), 0);
	ck_assert_int_eq(ring_ops->submit(ring, batch + 3, 1, &taken), 0);
	ck_assert_uint_eq(taken, 1);
	ck_assert_int_eq(ring_ops->wait(ring, 1, FOREVER, tally, &t), 0);
	ck_assert_uint_eq(t.seen, 1u << 3);
	for (size_t at = 0; at < 3 * piece; at += 4096)
		EXPECT(p[at] == 0xa5, "a refused range was given back");
	ck_assert_int_eq(p[3 * piece], 0);
	/* The whole queue must still be usable, round and round. */
	for (int round = 0; round < 10; round++)
		give_back(ring);
	ck_assert_int_eq(ring_ops->destroy(ring), 0);
}
END_TEST

/* As in a container: the profile answers io_uring_setup with EPERM. */
START_TEST(ring_that_is_denied_says_so)
{
	struct hak_ring *ring = NULL;

	ck_assert_int_eq(deny_io_uring(UINT32_MAX), 0);
	ck_assert_int_eq(ring_ops->create(8, &ring), -EPERM);
	ck_assert_ptr_null(ring);
}
END_TEST

/* Where the system has no ring: create must give the code that means "do not ask again". */
static int ring_here;

START_TEST(ring_that_is_not_there_says_so)
{
	struct hak_ring *ring = NULL;
	int error = ring_ops->create(8, &ring);

	ck_assert(error == -ENOSYS || error == -EPERM || error == -EOPNOTSUPP);
	ck_assert_ptr_null(ring);
}
END_TEST

/* ---- which of them can run here ---- */

enum need { ANY, HWLOC, NO_HWLOC, RING, NO_RING };

static const struct {
	const TTest *const *test;
	enum need need;
} all[] = {
	{ &another_abi_is_refused, ANY },
	{ &this_machine_is_what_the_kernel_says, ANY },
	{ &hwloc_and_sysfs_agree_about_this_machine, ANY },
	{ &a_snapshot_lies_in_the_callers_pages, ANY },
	{ &a_snapshot_cannot_be_written, ANY },
	{ &loading_does_not_move_the_thread, ANY },
	{ &sysfs_alone_is_enough, ANY },
	{ &a_kernel_without_numa_is_one_node, ANY },
	{ &nonsense_in_sysfs_is_refused, ANY },
	{ &hwlocs_environment_does_not_change_this_machine, HWLOC },
	{ &a_laptop, HWLOC },
	{ &two_sockets, HWLOC },
	{ &nodes_inside_a_socket, HWLOC },
	{ &more_nodes_than_a_word_has_bits, HWLOC },
	{ &eight_sockets_spill_by_distance_not_by_number, HWLOC },
	{ &a_node_without_cpus_comes_last_however_near, HWLOC },
	{ &slow_memory_is_known_by_its_attributes, HWLOC },
	{ &on_package_memory_is_not_the_cpus_own, HWLOC },
	{ &a_container_sees_a_part_of_sparse_nodes, HWLOC },
	{ &alignment_follows_the_page_sizes, HWLOC },
	{ &what_is_no_topology_is_refused, HWLOC },
	{ &without_hwloc_descriptions_are_refused, NO_HWLOC },
	{ &ring_gives_exactly_the_asked_pages_back, RING },
	{ &ring_takes_as_many_as_it_has_entries, RING },
	{ &ring_refuses_a_batch_whole, RING },
	{ &ring_hands_on_madvises_own_errors, RING },
	{ &ring_waits_no_longer_than_told, RING },
	{ &ring_works_on_the_cpus_it_was_given, RING },
	{ &ring_outlives_its_descriptor, RING },
	{ &ring_that_cannot_be_registered_notices_its_loss, RING },
	{ &ring_of_the_parent_is_forgotten_by_a_child, RING },
	{ &ring_forgets_what_the_kernel_refused, RING },
	{ &ring_that_is_denied_says_so, RING },
	{ &ring_that_is_not_there_says_so, NO_RING },
};

static bool can_run(enum need need)
{
	bool hwloc = ops->features & HAK_TOPO_HAS_HWLOC;

	switch (need) {
	case HWLOC:
		return hwloc;
	case NO_HWLOC:
		return !hwloc;
	case RING:
		return ring_here == 0;
	case NO_RING:
		return ring_ops && ring_here != 0;
	default:
		return true;
	}
}

/* Only what a build or a kernel lacks counts as skipped, not the check of the opposite. */
static bool is_loss(enum need need)
{
	return need == HWLOC || need == RING;
}

int main(void)
{
	Suite *suite = suite_create("topo");
	TCase *tcase = tcase_create("topo");
	SRunner *runner;
	struct hak_ring *ring = NULL;
	int skipped = 0, failed, passed;

	ops = hak_topo_open(HAK_TOPO_ABI);
	if (!ops) {
		puts("0 passed, 1 failed, 0 skipped");
		return 1;
	}
	ring_ops = ops->ring;
	ring_here = ring_ops ? ring_ops->create(8, &ring) : -ENOSYS;
	if (ring_here == 0)
		ring_ops->destroy(ring);
	else
		printf("no ring: %s\n", ring_ops ? strerror(-ring_here) : "built without liburing");
	if (!(ops->features & HAK_TOPO_HAS_HWLOC))
		puts("no hwloc");
	tcase_set_timeout(tcase, 30);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (can_run(all[i].need))
			tcase_add_test(tcase, *all[i].test);
		else
			skipped += is_loss(all[i].need);
	}
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	passed = srunner_ntests_run(runner) - failed;
	srunner_free(runner);
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed != 0;
}
