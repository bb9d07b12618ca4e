/* SPDX-License-Identifier: MIT */
/*
 * Which pool does a thread's memory come from, on machines that are made up: sparse node
 * numbers, CPUs without memory, memory without CPUs, policies, refusals? And what is the
 * kernel asked to bind?
 */
#include "numa/node.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>

#include "counters.h"
#include "front.h"
#include "hakmem/hakmem.h"
#include "heap.h"
#include "numa/huge.h"
#include "options.h"
#include "sys/sys.h"
#include "topo/topo.h"

#include "suite.h"

#define MIB ((size_t)1 << 20)
#define WEIGHTED 6 /* MPOL_WEIGHTED_INTERLEAVE, Linux 6.9 */

/* ---- a machine out of sysfs files -------------------------------------------------- */

static struct {
	const char *has_memory, *has_cpu, *online;
	const char *distance[HAK_NODE_IDS];
} machine;
static unsigned here;		      /* what getcpu says */
static int policy = MPOL_DEFAULT;     /* what get_mempolicy says, errors negative */
static unsigned long policy_nodes[HAK_NODE_WORDS];
static unsigned asked;		      /* get_mempolicy calls */
static struct {
	int mode;
	unsigned long nodes[HAK_NODE_WORDS];
	unsigned home;
	unsigned calls; /* refused ones too */
} bound;
static int refuse_home, refuse_bind, refuse_where;
static int where_all; /* the node that pages are said to lie on */
static int advice;    /* the newest about huge pages */
static struct hak_sys real;

static ssize_t f_read_file(const char *path, char *buf, size_t cap)
{
	const char *text = NULL;
	unsigned id;
	if (strstr(path, "has_memory"))
		text = machine.has_memory;
	else if (strstr(path, "has_cpu"))
		text = machine.has_cpu;
	else if (strstr(path, "online"))
		text = machine.online;
	else if (sscanf(path, "/sys/devices/system/node/node%u/distance", &id) == 1 && id < HAK_NODE_IDS)
		text = machine.distance[id];
	else
		return real.read_file(path, buf, cap);
	if (!text) {
		errno = ENOENT;
		return -1;
	}
	return snprintf(buf, cap, "%s\n", text);
}

static int f_getcpu(unsigned *cpu, unsigned *node)
{
	(void)cpu;
	*node = here;
	return 0;
}

static long f_get_mempolicy(int *mode, unsigned long *nodes, unsigned long maxnode, void *addr, unsigned long flags)
{
	(void)addr, (void)flags;
	asked++;
	if (policy < 0) {
		errno = -policy;
		return -1;
	}
	EXPECT(maxnode > HAK_NODE_IDS, "the kernel refuses a mask smaller than its own");
	if (mode)
		*mode = policy;
	memcpy(nodes, policy_nodes, sizeof policy_nodes);
	return 0;
}

static long f_mbind(void *p, size_t bytes, int mode, const unsigned long *nodes, unsigned long maxnode, unsigned flags)
{
	(void)p, (void)bytes, (void)maxnode, (void)flags;
	bound.calls++;
	if (refuse_bind) {
		errno = refuse_bind;
		return -1;
	}
	bound.mode = mode;
	memcpy(bound.nodes, nodes, sizeof bound.nodes);
	return 0;
}

static long f_home_node(void *p, size_t bytes, unsigned node)
{
	(void)p, (void)bytes;
	bound.home = node;
	errno = refuse_home;
	return refuse_home ? -1 : 0;
}

static long f_where_pages(unsigned long count, void **pages, int *status)
{
	(void)pages;
	for (unsigned long i = 0; i < count; i++)
		status[i] = where_all;
	errno = refuse_where;
	return refuse_where ? -1 : 0;
}

static int f_madvise_own(void *p, size_t bytes, int what)
{
	if (what == MADV_HUGEPAGE || what == MADV_NOHUGEPAGE)
		advice = what;
	return real.madvise_own(p, bytes, what);
}

static void boot(const char *has_memory, const char *has_cpu, const char *online)
{
	hak_option_values[HAK_OPT_reclaim] = 0;
	hak_option_values[HAK_OPT_bind] = HAK_BIND_ON; /* whatever filter the test runs under */
	machine.has_memory = has_memory;
	machine.has_cpu = has_cpu;
	machine.online = online;
	real = hak_sys;
	hak_sys.read_file = f_read_file;
	hak_sys.getcpu = f_getcpu;
	hak_sys.get_mempolicy = f_get_mempolicy;
	hak_sys.mbind = f_mbind;
	hak_sys.home_node = f_home_node;
	hak_sys.where_pages = f_where_pages;
	hak_sys.madvise_own = f_madvise_own;
	atomic_store(&hak_node_count, 0);
}

static unsigned mine_on(unsigned node)
{
	here = node;
	return hak_node_mine();
}

static bool in_mask(unsigned node)
{
	return bound.nodes[node / 64] >> (node % 64) & 1;
}

/* ---- pools -------------------------------------------------------------------------- */

START_TEST(one_node_asks_the_kernel_for_nothing)
{
	boot("0", "0", "0");
	hak_sys.getcpu = NULL; /* a call would crash */
	hak_sys.get_mempolicy = NULL;
	hak_sys.mbind = NULL;
	ck_assert_uint_eq(hak_node_mine(), 0);
	ck_assert_uint_eq(hak_node_here(), 0);
	ck_assert(hak_node_still(0));
	char page[HAK_PAGE];
	hak_node_bind(0, page, sizeof page);
	ck_assert(!hak_node_respread(0, page, sizeof page));
}
END_TEST

/* A service of systemd's is killed for mbind, move_pages and sched_setaffinity if its unit says ~@resources. */
START_TEST(under_a_filter_nothing_is_bound_unless_told)
{
	char page[HAK_PAGE];
	suite_filter();
	hak_sys_seccomp_start();
	boot("0-1", "0-1", "0-1");
	mine_on(1);
	ck_assert_uint_gt(asked, 0);
	hak_node_bind(1, page, sizeof page);
	ck_assert_uint_eq(bound.calls, 1);
	hak_option_values[HAK_OPT_bind] = HAK_BIND_AUTO;
	hak_sys.get_mempolicy = NULL; /* a call would crash */
	hak_sys.mbind = NULL;
	hak_sys.where_pages = NULL;
	ck_assert_uint_eq(mine_on(1), 1);
	hak_node_bind(1, page, sizeof page);
	hak_node_memory_only_last(1, page, sizeof page);
	hak_node_machine();
	ck_assert_int_eq(hak_node_where(page), -1);
	uint64_t present = 1, placed = 1;
	hak_node_sample(1, &present, &placed);
	ck_assert_uint_eq(present, 0);
	ck_assert(!hak_node_respread(1, page, sizeof page));
}
END_TEST

START_TEST(without_sysfs_there_is_one_node)
{
	boot(NULL, NULL, NULL);
	ck_assert_uint_eq(mine_on(3), 0);
}
END_TEST

START_TEST(a_node_below_64_is_its_own_pool)
{
	boot("0-2,63", "0-2,63", "0-2,63");
	ck_assert_uint_eq(mine_on(0), 0);
	ck_assert_uint_eq(mine_on(2), 2);
	ck_assert_uint_eq(mine_on(63), 63);
	ck_assert_uint_eq(hak_node_id(63), 63);
	ck_assert_uint_eq(hak_node_policy(63), 0);
}
END_TEST

START_TEST(nodes_with_large_numbers_get_pools_of_their_own)
{
	boot("0,64,128,1000", "0,64,128,1000", "0,64,128,1000");
	unsigned a = mine_on(64), b = mine_on(128), c = mine_on(1000);
	ck_assert(a >= HAK_NODES_DIRECT && b >= HAK_NODES_DIRECT && c >= HAK_NODES_DIRECT);
	ck_assert(a != b && b != c && a != c);
	ck_assert_uint_eq(mine_on(128), b);
	ck_assert_uint_eq(hak_node_id(a), 64);
	ck_assert_uint_eq(hak_node_id(b), 128);
	ck_assert_uint_eq(hak_node_id(c), 1000);
	ck_assert(hak_node_still(b)); /* asked for last, so that is where we are */
	ck_assert(!hak_node_still(a));
	hak_node_bind(c, NULL, HAK_GRANULE);
	ck_assert_int_eq(bound.mode, MPOL_PREFERRED);
	ck_assert(in_mask(1000) && !in_mask(0));
}
END_TEST

START_TEST(cpus_without_memory_belong_to_the_nearest_node_that_has_some)
{
	boot("0-1,3", "0-3", "0-3");
	machine.distance[2] = "21 17 10 32";
	ck_assert_uint_eq(mine_on(2), 1);
	ck_assert_uint_eq(mine_on(3), 3);
	here = 2;
	ck_assert(hak_node_still(1));
}
END_TEST

START_TEST(distances_are_listed_by_nodes_that_are_online_not_by_number)
{
	boot("4,9", "2,4,9", "2,4,9");
	machine.distance[2] = "10 40 20";
	ck_assert_uint_eq(mine_on(2), 9);
}
END_TEST

START_TEST(each_policy_on_each_node_has_a_pool_of_its_own)
{
	boot("0-3", "0-3", "0-3");
	policy = MPOL_BIND;
	policy_nodes[0] = 1 << 2;
	unsigned a = mine_on(0), b = mine_on(1);
	policy_nodes[0] = 1 << 3;
	unsigned c = mine_on(0);
	policy = MPOL_INTERLEAVE;
	unsigned d = mine_on(0);
	ck_assert(a != b && a != c && a != d && c != d);
	ck_assert(a >= HAK_NODES_DIRECT && d >= HAK_NODES_DIRECT);
	ck_assert_uint_eq(hak_node_id(a), 0);
	ck_assert_uint_eq(hak_node_id(b), 1);
	ck_assert_uint_eq(hak_node_policy(a), MPOL_BIND);
	ck_assert_uint_eq(hak_node_policy(d), MPOL_INTERLEAVE);
	policy = MPOL_BIND;
	policy_nodes[0] = 1 << 2;
	ck_assert_uint_eq(mine_on(0), a);
	policy = MPOL_DEFAULT;
	policy_nodes[0] = 0;
	ck_assert_uint_eq(mine_on(0), 0);
}
END_TEST

START_TEST(interleaved_memory_is_not_laid_on_huge_pages)
{
	boot("0-1", "0-1", "0-1");
	policy_nodes[0] = 3;
	hak_option_values[HAK_OPT_huge_zone_kib] = 0;
	hak_option_values[HAK_OPT_huge_price] = 0;
	for (policy = MPOL_BIND; policy <= WEIGHTED; policy += 1) {
		bool turns = policy == MPOL_INTERLEAVE || policy == WEIGHTED;
		int expected = turns ? MADV_NOHUGEPAGE : MADV_HUGEPAGE;
		ck_assert_int_eq(hak_node_interleaves(hak_node_mine()), turns);
		ck_assert_int_eq(hak_node_wants_huge(hak_node_mine()), !turns);
		/* a span arena's first step, its next, and a mapping of its own */
		for (size_t mib = 3; mib <= 100; mib += mib < 40 ? 37 : 60) {
			advice = 0;
			hak_malloc(mib * MIB);
			ck_assert_int_eq(advice, expected);
		}
		hak_malloc(128 * MIB); /* of so many pages each node gets its share */
		ck_assert_int_eq(advice, MADV_HUGEPAGE);
	}
	policy = MPOL_DEFAULT;
	hak_memalign_at((unsigned)hak_node_place(HAKMEM_NODE_INTERLEAVED), 16, 3 * MIB);
	ck_assert_int_eq(advice, MADV_NOHUGEPAGE);
	hak_memalign_at(1, 16, 3 * MIB);
	ck_assert_int_eq(advice, MADV_HUGEPAGE);
}
END_TEST

START_TEST(weighted_interleaving_is_a_policy_of_the_users)
{
	boot("0-1", "0-1", "0-1");
	hak_heap_self = &hak_heap_none;
	policy_nodes[0] = 3;
	policy = MPOL_INTERLEAVE;
	unsigned even = mine_on(0);
	policy = WEIGHTED;
	unsigned weighted = mine_on(0);
	ck_assert_uint_eq(hak_node_policy(weighted), WEIGHTED);
	ck_assert_uint_ne(weighted, even);
	ck_assert_uint_ne(weighted, 0);
	policy_nodes[0] = 2;
	ck_assert_uint_ne(mine_on(0), weighted);
	policy_nodes[0] = 3;
	/* of every tier: from its pool, and not bound, so that the kernel places each page */
	for (size_t bytes = 100; bytes < 4 * MIB; bytes *= 6)
		ck_assert_uint_eq(hak_arena_of(hak_malloc(bytes))->node, weighted);
	ck_assert_uint_eq(bound.calls, 0);
	/* large blocks go where its weights say, also the second time */
	where_all = 1;
	char *p = hak_malloc(3 * MIB);
	memset(p, 1, 3 * MIB);
	hak_free(p);
	ck_assert_ptr_eq(hak_malloc(3 * MIB), p);
	ck_assert_uint_eq(hak_counted(respread), 0);
}
END_TEST

START_TEST(local_allocation_is_no_policy)
{
	boot("0-1", "0-1", "0-1");
	policy = MPOL_LOCAL;
	ck_assert_uint_eq(mine_on(1), 1);
	policy = MPOL_PREFERRED; /* of no node: how kernels before 5.14 say it */
	ck_assert_uint_eq(mine_on(1), 1);
	policy_nodes[0] = 1;
	ck_assert_uint_ge(mine_on(1), HAK_NODES_DIRECT);
}
END_TEST

START_TEST(more_policies_than_pools_share_the_last_one)
{
	boot("0-1", "0-1", "0-1");
	policy = MPOL_BIND;
	unsigned last = 0;
	for (unsigned i = 1; i <= 100; i++) {
		policy_nodes[1] = i;
		last = mine_on(0);
		ck_assert_uint_ge(last, HAK_NODES_DIRECT);
	}
	ck_assert_uint_eq(last, HAK_NODES - 1);
	ck_assert_uint_eq(hak_node_policy(last), MPOL_BIND);
	policy_nodes[1] = 1; /* the first ones keep theirs */
	ck_assert_uint_eq(mine_on(0), HAK_NODES_DIRECT);
}
END_TEST

START_TEST(a_refused_question_is_not_asked_again)
{
	boot("0-1", "0-1", "0-1");
	policy = -EPERM;
	ck_assert_uint_eq(mine_on(1), 1);
	ck_assert_uint_eq(mine_on(0), 0);
	ck_assert_uint_eq(asked, 1);
}
END_TEST

/* ---- binding ------------------------------------------------------------------------ */

START_TEST(memory_of_a_node_prefers_it)
{
	boot("0-1", "0-1", "0-1");
	mine_on(0);
	hak_node_bind(1, NULL, HAK_GRANULE);
	ck_assert_int_eq(bound.mode, MPOL_PREFERRED);
	ck_assert(in_mask(1) && !in_mask(0));
	ck_assert_uint_eq(hak_counted(binds), 1);
}
END_TEST

START_TEST(memory_only_nodes_come_last)
{
	boot("0-3", "0-1", "0-3");
	mine_on(0);
	hak_node_bind(1, NULL, HAK_GRANULE);
	ck_assert_int_eq(bound.mode, MPOL_PREFERRED_MANY);
	ck_assert(in_mask(0) && in_mask(1) && !in_mask(2) && !in_mask(3));
	ck_assert_uint_eq(bound.home, 1);
	/* who asks for a memory-only node gets it first */
	hak_node_bind(2, NULL, HAK_GRANULE);
	ck_assert_int_eq(bound.mode, MPOL_PREFERRED);
	ck_assert(in_mask(2) && !in_mask(0));
}
END_TEST

START_TEST(a_kernel_without_home_nodes_prefers_one_node)
{
	boot("0-2", "0-1", "0-2");
	refuse_home = ENOSYS;
	mine_on(0);
	hak_node_bind(1, NULL, HAK_GRANULE);
	ck_assert_int_eq(bound.mode, MPOL_PREFERRED);
	ck_assert(in_mask(1) && !in_mask(0));
	ck_assert_uint_eq(bound.calls, 2);
	hak_node_bind(1, NULL, HAK_GRANULE);
	ck_assert_uint_eq(bound.calls, 3); /* not tried again */
}
END_TEST

START_TEST(memory_under_a_policy_is_not_bound)
{
	boot("0-1", "0-1", "0-1");
	policy = MPOL_BIND;
	policy_nodes[0] = 1;
	hak_node_bind(mine_on(1), NULL, HAK_GRANULE);
	ck_assert_uint_eq(bound.calls, 0);
	ck_assert_uint_eq(hak_counted(bind_failures), 0);
}
END_TEST

/* Of a span, then of a mapping of its own; what the kernel is asked for each. */
static void expect_large_blocks(unsigned node, unsigned calls, int mode)
{
	static const size_t sizes[] = { 3 * MIB, HAK_HUGE_OWN };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		bool zero;
		memset(&bound, 0, sizeof bound);
		ck_assert_ptr_nonnull(hak_huge_alloc(node, sizes[i], HAK_GRANULE, &zero));
		ck_assert_uint_eq(bound.calls, calls);
		ck_assert_int_eq(bound.mode, mode);
		ck_assert_uint_eq(bound.home, 0);
	}
}

START_TEST(large_blocks_prefer_all_nodes_with_cpus_and_none_of_them)
{
	boot("0-3", "0-1", "0-3");
	ck_assert_uint_eq(mine_on(1), 1);
	expect_large_blocks(1, 1, MPOL_PREFERRED_MANY | MPOL_F_NUMA_BALANCING);
	ck_assert(in_mask(0) && in_mask(1) && !in_mask(2) && !in_mask(3));
	policy = MPOL_BIND;
	policy_nodes[0] = 4;
	expect_large_blocks(mine_on(1), 0, 0);
}
END_TEST

START_TEST(large_blocks_are_left_alone_where_all_nodes_have_cpus)
{
	boot("0-1", "0-1", "0-1");
	mine_on(1);
	expect_large_blocks(1, 0, 0);
}
END_TEST

START_TEST(large_blocks_are_left_alone_where_the_kernel_would_not_balance_them)
{
	bool zero;
	boot("0-2", "0-1", "0-2");
	mine_on(1);
	refuse_bind = EINVAL;
	hak_huge_alloc(1, 3 * MIB, HAK_GRANULE, &zero);
	ck_assert_uint_eq(bound.calls, 1);
	expect_large_blocks(1, 0, 0); /* not asked again */
	refuse_bind = 0;
	hak_node_bind(1, NULL, HAK_GRANULE); /* which is for smaller ones another question */
	ck_assert_int_eq(bound.mode, MPOL_PREFERRED_MANY);
}
END_TEST

START_TEST(a_refused_binding_is_counted)
{
	boot("0-1", "0-1", "0-1");
	refuse_bind = EPERM;
	mine_on(0);
	hak_node_bind(1, NULL, HAK_GRANULE);
	ck_assert_uint_eq(hak_counted(bind_failures), 1);
	ck_assert_uint_eq(hak_counted(binds), 0);
}
END_TEST

/* ---- threads ------------------------------------------------------------------------ */

START_TEST(a_thread_given_a_policy_gets_memory_of_its_own)
{
	boot("0-1", "0-1", "0-1");
	hak_heap_self = &hak_heap_none; /* as if it had not allocated yet */
	char *before = hak_malloc(100);
	ck_assert_uint_eq(hak_arena_of(before)->node, 0);
	policy = MPOL_BIND;
	policy_nodes[0] = 2;
	unsigned pool = hak_node_mine(), last = 0;
	char *p = NULL;
	for (int i = 0; i < 20000; i++) /* what the heap has of its own comes first */
		p = hak_malloc(100);
	last = hak_arena_of(p)->node;
	ck_assert_uint_eq(last, pool);
	ck_assert_uint_eq(hak_arena_of(hak_malloc(300 * 1024))->node, pool);
	ck_assert_uint_eq(hak_arena_of(hak_malloc(3 * MIB))->node, pool);
	policy = MPOL_DEFAULT;
	policy_nodes[0] = 0;
	ck_assert_uint_eq(hak_arena_of(hak_malloc(300 * 1024))->node, 0);
	/* and blocks of the other pool go back to it */
	hak_free(p);
	hak_free(before);
}
END_TEST

START_TEST(a_thread_that_moved_leaves_its_full_magazine_behind)
{
	static char *p[2000];
	boot("0-1", "0-1", "0-1");
	hak_heap_self = &hak_heap_none;
	for (int i = 0; i < 2000; i++)
		p[i] = hak_malloc(64);
	here = 1;
	for (int i = 0; i < 2000; i++) /* frees alone: a full magazine is where it notices */
		hak_free(p[i]);
	ck_assert_uint_eq(hak_heap_self->node, 1);
	ck_assert_uint_eq(hak_arena_of(hak_malloc(64))->node, 1);
}
END_TEST

static void *get_heap(void *arg)
{
	(void)arg;
	hak_free(hak_malloc(100));
	return hak_heap_self;
}

static struct hak_heap *heap_of_a_thread_on(unsigned node)
{
	pthread_t thread;
	void *heap;
	here = node;
	ck_assert(!pthread_create(&thread, NULL, get_heap, NULL));
	pthread_join(thread, &heap);
	return heap;
}

START_TEST(a_parked_heap_stays_on_its_node)
{
	static char *p[2000];
	boot("0-1", "0-1", "0-1");
	struct hak_heap *a = heap_of_a_thread_on(0), *b = heap_of_a_thread_on(1);
	ck_assert(a != b && a->node == 0 && b->node == 1);
	for (int i = 0; i < 3; i++) {
		ck_assert_ptr_eq(heap_of_a_thread_on(1), b);
		ck_assert_ptr_eq(heap_of_a_thread_on(0), a);
	}
	/* a thread that moves leaves its heap there and takes one of the new node */
	hak_heap_self = &hak_heap_none;
	for (int i = 0; i < 2000; i++) {
		here = i >= 1000;
		p[i] = hak_malloc(64);
		ck_assert(hak_heap_self == a || (i >= 1000 && hak_heap_self == b));
	}
	ck_assert_ptr_eq(hak_heap_self, b);
	ck_assert_ptr_eq(heap_of_a_thread_on(0), a);
	/* and what it has of the old one goes home */
	here = 1;
	for (int i = 0; i < 1000; i++)
		hak_free(p[i]);
	hak_heap_flush(hak_heap_self);
	ck_assert_uint_eq(hak_node_frees[1][0], 1000);
	ck_assert_uint_eq(hak_arena_of(hak_malloc(64))->node, 1);
}
END_TEST

/* ---- huge blocks, the second time ---------------------------------------------------- */

START_TEST(a_huge_block_that_lay_elsewhere_is_given_back_before_reuse)
{
	boot("0-1", "0-1", "0-1");
	hak_heap_self = &hak_heap_none;
	char *p = hak_malloc(8 * MIB);
	p[5 * MIB] = 1;
	hak_free(p);
	where_all = 0; /* where the thread is: kept */
	ck_assert_ptr_eq(hak_malloc(8 * MIB), p);
	ck_assert_int_eq(p[5 * MIB], 1);
	hak_free(p);
	where_all = -ENOENT; /* never touched */
	ck_assert_ptr_eq(hak_malloc(8 * MIB), p);
	ck_assert_int_eq(p[5 * MIB], 1);
	hak_free(p);
	where_all = 1;
	ck_assert_ptr_eq(hak_malloc(8 * MIB), p);
	ck_assert_int_eq(p[5 * MIB], 0);
	ck_assert_uint_eq(hak_counted(respread), 8 * MIB);
	p[5 * MIB] = 1;
	hak_free(p);
	refuse_where = EPERM; /* nobody knows: kept */
	ck_assert_ptr_eq(hak_malloc(8 * MIB), p);
	ck_assert_int_eq(p[5 * MIB], 1);
}
END_TEST

static void large_block_is_fresh_each_time(void)
{
	char *p = hak_malloc(32 * MIB);
	p[5 * MIB] = 1;
	hak_free(p);
	ck_assert_ptr_eq(hak_malloc(32 * MIB), p);
	ck_assert_int_eq(p[5 * MIB], 0);
	hak_free(p);
}

START_TEST(where_nobody_may_ask_a_large_block_is_fresh_each_time)
{
	boot("0-1", "0-1", "0-1");
	hak_heap_self = &hak_heap_none;
	refuse_where = EPERM;
	large_block_is_fresh_each_time();
	refuse_where = 0;
	hak_option_values[HAK_OPT_bind] = 0; /* nobody wants to ask */
	hak_sys.where_pages = NULL;
	large_block_is_fresh_each_time();
}
END_TEST

/* ---- other pools ---------------------------------------------------------------------- */

START_TEST(pools_are_taken_by_policy_then_tier_then_distance)
{
	static struct hak_arena *fake;
	uint8_t order[HAK_NODES];
	boot("0-4", "0-3", "0-4");
	machine.distance[1] = "30 10 20 25 15";
	fake = mmap(NULL, sizeof *fake, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mine_on(1);
	policy = MPOL_BIND;
	policy_nodes[0] = 1;
	unsigned other = mine_on(2);
	for (unsigned i = 0; i < 5; i++)
		atomic_store(&hak_nodes[i].arenas, fake);
	atomic_store(&hak_nodes[other].arenas, fake);
	ck_assert_uint_eq(hak_node_order(1, order), 5);
	const unsigned want[] = { 2, 3, 0, 4, other }; /* 4 is near, but memory-only */
	for (unsigned i = 0; i < 5; i++)
		ck_assert_uint_eq(order[i], want[i]);
}
END_TEST

START_TEST(a_sample_tells_how_many_pages_are_on_their_node)
{
	uint64_t present, placed;
	boot("0-1", "0-1", "0-1");
	hak_heap_self = &hak_heap_none;
	mine_on(0);
	hak_node_sample(0, &present, &placed);
	ck_assert_uint_eq(present, 0);
	for (int i = 0; i < 100; i++) /* beyond one SuperSlab, and one batch of questions */
		hak_malloc(MIB);
	where_all = 0;
	hak_node_sample(0, &present, &placed);
	ck_assert_uint_ge(present, 40);
	ck_assert_uint_eq(present, placed);
	where_all = 1;
	hak_node_sample(0, &present, &placed);
	ck_assert_uint_ge(present, 40);
	ck_assert_uint_eq(placed, 0);
	where_all = -ENOENT;
	hak_node_sample(0, &present, &placed);
	ck_assert_uint_eq(present, 0);
	refuse_where = EPERM;
	hak_node_sample(0, &present, &placed);
	ck_assert_uint_eq(present, 0);
}
END_TEST

/* ---- figures -------------------------------------------------------------------------- */

#define LOST 200 /* blocks that one thread leaves to another */
static void *lost[LOST];

/* Freed by a thread of node 1: the first ones before it has a heap, one by one. */
static void *free_elsewhere(void *arg)
{
	here = 1;
	for (int i = 0; i < LOST; i++)
		hak_free(lost[i]);
	hak_heap_flush(hak_heap_self);
	return arg;
}

START_TEST(remote_frees_are_counted_from_node_to_node)
{
	boot("0-2", "0-2", "0-2");
	hak_heap_self = &hak_heap_none;
	here = 0;
	for (int i = 0; i < LOST; i++)
		lost[i] = hak_malloc(1000);
	suite_threads(1, free_elsewhere);
	for (unsigned from = 0; from < 3; from++)
		for (unsigned to = 0; to < 3; to++)
			ck_assert_uint_eq(hak_node_frees[from][to], from == 1 && to == 0 ? LOST : 0);
	ck_assert(hak_node_in_use(0) && hak_node_in_use(1) && !hak_node_in_use(2));
}
END_TEST

static void *no_room(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	(void)addr, (void)bytes, (void)prot, (void)flags, (void)fd, (void)offset;
	errno = ENOMEM;
	return MAP_FAILED;
}

START_TEST(what_other_pools_help_out_with_is_counted)
{
	struct hak_run run;
	boot("0-1", "0-1", "0-1");
	mine_on(0);
	ck_assert(hak_pool_claim(1, 8, false, false, &run));
	hak_pool_release(run.arena, run.granule, 8);
	ck_assert(hak_pool_claim(1, 4, false, false, &run));
	hak_sys.mmap = no_room;
	ck_assert(hak_pool_claim(0, 4, false, false, &run));
	ck_assert_uint_eq(run.arena->node, 1);
	ck_assert_uint_eq(hak_nodes[0].spilled_bytes, 4 * HAK_GRANULE);
	ck_assert_uint_eq(hak_nodes[1].spilled_bytes, 0);
}
END_TEST

/* ---- places --------------------------------------------------------------------------- */

START_TEST(a_place_is_a_node_a_kind_or_all_by_turns)
{
	boot("0-3", "0-1", "0-3");
	machine.distance[0] = "10 20 40 30";
	machine.distance[1] = "20 10 30 40";
	ck_assert_int_eq(hak_node_place(1), 1);
	ck_assert_int_eq(hak_node_place(2), 2);
	ck_assert_int_eq(hak_node_place(4), -1);
	ck_assert_int_eq(hak_node_place(5000), -1);
	ck_assert_int_eq(hak_node_place(-5), -1);
	here = 1;
	ck_assert_int_eq(hak_node_place(HAKMEM_NODE_LOCAL), 1);
	/* without a topology a memory-only node is capacity, the nearest one, and none is fast */
	ck_assert_int_eq(hak_node_place(HAKMEM_NODE_CAPACITY), 2);
	ck_assert_int_eq(hak_node_place(HAKMEM_NODE_BANDWIDTH), 1);
	here = 0;
	ck_assert_int_eq(hak_node_place(HAKMEM_NODE_CAPACITY), 3);
	unsigned turns = (unsigned)hak_node_place(HAKMEM_NODE_INTERLEAVED);
	ck_assert(hak_node_interleaves(turns));
	hak_node_bind(turns, NULL, HAK_GRANULE);
	ck_assert_int_eq(bound.mode, MPOL_INTERLEAVE);
	ck_assert(in_mask(0) && in_mask(1) && !in_mask(2) && !in_mask(3));
	/* the user's own interleaving is another pool, and not bound */
	policy = MPOL_INTERLEAVE;
	policy_nodes[0] = 3;
	ck_assert_uint_ne(hak_node_mine(), turns);
	ck_assert_int_eq(hak_node_place(HAKMEM_NODE_LOCAL), 0);
}
END_TEST

START_TEST(the_topology_tells_fast_memory_from_slow)
{
	static const uint32_t distance[4] = { 10, 20, 25, 15 };
	static const struct hak_topo_node nodes[4] = {
		{ .memory_bytes = 1, .os_index = 0, .kind = HAK_MEM_DRAM, .has_cpus = true, .allowed = true, .distance = distance },
		{ .memory_bytes = 1, .os_index = 1, .kind = HAK_MEM_HBM, .allowed = true, .distance = distance },
		{ .memory_bytes = 1, .os_index = 2, .kind = HAK_MEM_CXL, .allowed = true, .distance = distance },
		{ .memory_bytes = 1, .os_index = 3, .kind = HAK_MEM_CXL, .allowed = false, .distance = distance },
	};
	static struct hak_topology t = { .nodes = 4, .node = nodes };
	boot("0-3", "0", "0-3");
	mine_on(0);
	hak_node_topology(&t); /* of another machine: nothing is placed by it */
	ck_assert_int_eq(hak_node_place(HAKMEM_NODE_BANDWIDTH), 0);
	t.this_machine = true;
	hak_node_topology(&t);
	ck_assert_int_eq(hak_node_place(HAKMEM_NODE_BANDWIDTH), 1);
	ck_assert_int_eq(hak_node_place(HAKMEM_NODE_CAPACITY), 2); /* 3 is nearer and not allowed */
}
END_TEST

START_TEST(memory_that_came_later_counts_once_the_topology_says_so)
{
	static const uint32_t distance[2] = { 10, 20 };
	static const struct hak_topo_node nodes[2] = {
		{ .memory_bytes = 1, .os_index = 0, .has_cpus = true, .allowed = true, .distance = distance },
		{ .memory_bytes = 1, .os_index = 70, .has_cpus = true, .allowed = true, .distance = distance },
	};
	static const struct hak_topology t = { .nodes = 2, .node = nodes, .this_machine = true };
	boot("0", "0", "0");
	ck_assert_uint_eq(mine_on(70), 0);
	hak_node_topology(&t);
	ck_assert_uint_eq(hak_node_count, 2);
	ck_assert_uint_eq(hak_node_id(mine_on(70)), 70);
}
END_TEST

START_TEST(a_machine_that_changes_is_known_by_its_number)
{
	boot("0-1", "0-1", "0-1");
	uint64_t before = hak_node_machine();
	ck_assert_uint_eq(hak_node_machine(), before);
	machine.has_cpu = "0";
	uint64_t without_cpus = hak_node_machine();
	ck_assert_uint_ne(without_cpus, before);
	machine.has_cpu = "0-1";
	ck_assert_uint_eq(hak_node_machine(), before);
	policy_nodes[0] = 1; /* what the process may use */
	ck_assert_uint_ne(hak_node_machine(), before);
	policy_nodes[0] = 0;
	hak_option_values[HAK_OPT_bind] = 0;
	asked = 0;
	hak_node_machine();
	ck_assert_uint_eq(asked, 0);
}
END_TEST

START_TEST(threads_follow_memory_that_goes_and_comes_back)
{
	boot("0-2", "0-2", "0-2");
	machine.distance[1] = "25 10 20";
	ck_assert_uint_eq(mine_on(1), 1);
	machine.has_memory = "0,2";
	hak_node_changed();
	ck_assert_uint_eq(mine_on(1), 2);
	ck_assert(!hak_node_still(1));
	machine.has_memory = "0";
	hak_node_changed();
	ck_assert_uint_eq(mine_on(1), 0); /* and still asks where it is */
	machine.has_memory = NULL; /* no answer says nothing */
	hak_node_changed();
	ck_assert_uint_eq(mine_on(1), 0);
	machine.has_memory = "0-2";
	hak_node_changed();
	ck_assert_uint_eq(mine_on(1), 1);
}
END_TEST

START_TEST(a_node_that_has_just_gone_does_not_end_the_binding_of_others)
{
	boot("0-2", "0-1", "0-2");
	mine_on(0);
	refuse_home = EINVAL;
	hak_node_bind(1, NULL, HAK_GRANULE);
	ck_assert_int_eq(bound.mode, MPOL_PREFERRED);
	refuse_home = 0;
	hak_node_bind(0, NULL, HAK_GRANULE);
	ck_assert_int_eq(bound.mode, MPOL_PREFERRED_MANY);
	ck_assert_uint_eq(bound.home, 0);
}
END_TEST

START_TEST(one_node_is_every_place)
{
	boot("0", "0", "0");
	for (int place = HAKMEM_NODE_INTERLEAVED; place <= 0; place++)
		ck_assert_int_eq(hak_node_place(place), 0);
	ck_assert_int_eq(hak_node_place(1), -1);
	char *p = hak_memalign_at(0, 16, 100);
	ck_assert_uint_ge(hak_usable_size(p), 100);
	hak_free(p);
}
END_TEST

START_TEST(blocks_at_a_place_are_of_its_pool_and_go_back_to_it)
{
	static const size_t sizes[] = { 1, 100, 20000, 200000, 700000 };
	boot("0-1", "0-1", "0-1");
	hak_heap_self = &hak_heap_none;
	mine_on(0);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		char *p = hak_memalign_at(1, 64, sizes[i]), *mine = hak_malloc(sizes[i]);
		ck_assert_uint_eq((uintptr_t)p % 64, 0);
		ck_assert_uint_eq(hak_arena_of(p)->node, 1);
		ck_assert_uint_eq(hak_arena_of(mine)->node, 0);
		memset(p, 1, sizes[i]);
		hak_free(p);
		hak_free(mine);
		ck_assert_uint_eq(hak_arena_of(hak_malloc(sizes[i]))->node, 0);
	}
	ck_assert_uint_eq(hak_heap_self->node, 0);
	unsigned before = bound.calls;
	char *p = hak_memalign_at(1, 16, 5 * MIB); /* over 1 MiB: bound, so a mapping of its own */
	ck_assert_uint_eq(bound.calls, before + 1);
	ck_assert(in_mask(1) && hak_own_size(p) >= 5 * MIB);
	hak_free(p);
	ck_assert_ptr_null(hak_memalign_at(1, 16, HAK_MAX_REQUEST));
}
END_TEST

START_TEST(a_bound_thread_stays_wherever_it_runs)
{
	boot("0-1", "0-1", "0-1");
	hak_heap_self = &hak_heap_none;
	mine_on(0);
	hak_free(hak_malloc(100));
	hak_node_pin(1);
	hak_thread_settle();
	ck_assert_uint_eq(hak_heap_self->node, 1);
	policy = MPOL_BIND;
	policy_nodes[0] = 1;
	ck_assert_uint_eq(hak_arena_of(hak_malloc(100))->node, 1);
	ck_assert_uint_eq(hak_arena_of(hak_malloc(300 * 1024))->node, 1);
	ck_assert_uint_ge(hak_own_size(hak_malloc(2 * MIB)), 2 * MIB);
	policy = MPOL_DEFAULT;
	policy_nodes[0] = 0;
	hak_node_pin(-1);
	hak_thread_settle();
	ck_assert_uint_eq(hak_heap_self->node, 0);
	ck_assert_uint_eq(hak_own_size(hak_malloc(2 * MIB)), 0);
}
END_TEST

START_TEST(a_block_tells_where_it_lies_or_is_bound_to)
{
	boot("0-1", "0-1", "0-1");
	hak_heap_self = &hak_heap_none;
	mine_on(0);
	char *p = hak_memalign_at(1, 16, 100), *huge = hak_malloc(2 * MIB);
	where_all = 0;
	ck_assert_int_eq(hak_block_node(p), 0); /* what the kernel says counts */
	where_all = -ENOENT;
	ck_assert_int_eq(hak_block_node(p), 1);
	ck_assert_int_eq(hak_block_node(huge), -1);
	ck_assert_int_eq(hak_block_node(&p), -2);
	ck_assert_int_eq(hak_block_node(NULL), -2);
	ck_assert_int_eq(hak_block_node(hak_memalign_at((unsigned)hak_node_place(HAKMEM_NODE_INTERLEAVED), 16, 100)), -1);
}
END_TEST

SUITE("node", 30, CALM(where_nobody_may_ask_a_large_block_is_fresh_each_time),
      CALM(remote_frees_are_counted_from_node_to_node), CALM(what_other_pools_help_out_with_is_counted),
      CALM(a_sample_tells_how_many_pages_are_on_their_node),
      CALM(a_place_is_a_node_a_kind_or_all_by_turns), CALM(the_topology_tells_fast_memory_from_slow),
      CALM(memory_that_came_later_counts_once_the_topology_says_so), CALM(one_node_is_every_place),
      CALM(a_machine_that_changes_is_known_by_its_number), CALM(threads_follow_memory_that_goes_and_comes_back),
      CALM(a_node_that_has_just_gone_does_not_end_the_binding_of_others),
      CALM(blocks_at_a_place_are_of_its_pool_and_go_back_to_it), CALM(a_bound_thread_stays_wherever_it_runs),
      CALM(a_block_tells_where_it_lies_or_is_bound_to), CALM(one_node_asks_the_kernel_for_nothing),
      CALM(under_a_filter_nothing_is_bound_unless_told),
      CALM(without_sysfs_there_is_one_node),
      CALM(a_node_below_64_is_its_own_pool), CALM(nodes_with_large_numbers_get_pools_of_their_own),
      CALM(cpus_without_memory_belong_to_the_nearest_node_that_has_some),
      CALM(distances_are_listed_by_nodes_that_are_online_not_by_number),
      CALM(each_policy_on_each_node_has_a_pool_of_its_own), CALM(interleaved_memory_is_not_laid_on_huge_pages),
      CALM(weighted_interleaving_is_a_policy_of_the_users),
      CALM(local_allocation_is_no_policy),
      CALM(more_policies_than_pools_share_the_last_one), CALM(a_refused_question_is_not_asked_again),
      CALM(memory_of_a_node_prefers_it), CALM(memory_only_nodes_come_last),
      CALM(a_kernel_without_home_nodes_prefers_one_node), CALM(memory_under_a_policy_is_not_bound),
      CALM(large_blocks_prefer_all_nodes_with_cpus_and_none_of_them),
      CALM(large_blocks_are_left_alone_where_all_nodes_have_cpus),
      CALM(large_blocks_are_left_alone_where_the_kernel_would_not_balance_them),
      CALM(a_refused_binding_is_counted), CALM(a_thread_given_a_policy_gets_memory_of_its_own),
      CALM(a_thread_that_moved_leaves_its_full_magazine_behind), CALM(a_parked_heap_stays_on_its_node),
      CALM(a_huge_block_that_lay_elsewhere_is_given_back_before_reuse),
      CALM(pools_are_taken_by_policy_then_tier_then_distance))
