/* SPDX-License-Identifier: MIT */
/* Is the second library loaded once, published whole, and never in the way of fork or exit? */
#include "numa/topology.h"

#include <link.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "counters.h"
#include "init.h"
#include "numa/engine.h"
#include "numa/node.h"
#include "options.h"
#include "suite.h"
#include "sys/sys.h"

static unsigned delay_ms; /* of each mapping, once set */
static _Atomic bool mapping; /* a load is in the middle */

static void *slow_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	mapping = true;
	usleep(delay_ms * 1000);
	return mmap(addr, bytes, prot, flags, fd, offset);
}

static void use(const char *how)
{
	hak_option_strings[HAK_STR_topology] = how;
	hak_topology_start();
}

/* This machine has several nodes, or is taken to: else there is nothing to load for. */
static void load_here(void)
{
	atomic_store(&hak_node_count, 2);
	hak_topology_load();
}

static void *load(void *arg)
{
	hak_fork_check(); /* and so links init.c, whose constructor registers the handlers of fork */
	load_here();
	return arg;
}

/* As the reclaimer does: on a thread of its own. */
static void load_elsewhere(void)
{
	pthread_t thread;
	ck_assert(!pthread_create(&thread, NULL, load, NULL));
	pthread_join(thread, NULL);
}

/* Returns when a load that takes delay_ms at least is in its middle. */
static pthread_t begin_slow_load(unsigned ms)
{
	pthread_t thread;
	delay_ms = ms;
	hak_sys.mmap = slow_mmap;
	ck_assert(!pthread_create(&thread, NULL, load, NULL));
	while (!mapping)
		usleep(1000);
	return thread;
}

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* The exit status of a child that returns what `check` does. */
static int in_child(int (*check)(void))
{
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(check());
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int child_has_it(void)
{
	return hak_topology() != NULL;
}

static int child_loads_it(void)
{
	load_here();
	return hak_topology() != NULL;
}

START_TEST(nothing_is_there_before_the_load)
{
	ck_assert_ptr_null(hak_topology());
	ck_assert_ptr_null(hak_topo());
	ck_assert_str_eq(hak_topology_source(), "builtin");
}
END_TEST

START_TEST(a_load_publishes_this_machine_once)
{
	load_elsewhere();
	const struct hak_topology *t = hak_topology();
	ck_assert_ptr_nonnull(t);
	ck_assert(t->this_machine);
	ck_assert_uint_ge(t->nodes, 1);
	ck_assert_uint_eq(hak_topo()->abi, HAK_TOPO_ABI);
	ck_assert_str_ne(hak_topology_source(), "builtin");
	load_elsewhere();
	ck_assert_ptr_eq(hak_topology(), t);
}
END_TEST

static const char *cpus_online; /* what the kernel says; NULL: the truth */
static ssize_t (*real_read_file)(const char *path, char *buf, size_t cap);

static ssize_t read_cpus(const char *path, char *buf, size_t cap)
{
	if (cpus_online && strcmp(path, "/sys/devices/system/cpu/online") == 0)
		return snprintf(buf, cap, "%s", cpus_online);
	return real_read_file(path, buf, cap);
}

/* Loads, then again with other CPUs online; how often the topology was loaded. */
static unsigned loads_of_a_changing_machine(void)
{
	real_read_file = hak_sys.read_file;
	hak_sys.read_file = read_cpus;
	load_elsewhere();
	cpus_online = "0,77";
	load_elsewhere();
	load_elsewhere();
	return (unsigned)hak_counted(topologies);
}

START_TEST(a_machine_that_changed_is_loaded_again)
{
	ck_assert_uint_eq(loads_of_a_changing_machine(), 2);
	const struct hak_topology *t = hak_topology();
	cpus_online = NULL;
	load_elsewhere();
	ck_assert_ptr_ne(hak_topology(), t);
	ck_assert_uint_ge(t->nodes, 1); /* a reader of the old one may still be at it */
}
END_TEST

START_TEST(a_machine_that_changed_is_not_loaded_where_nothing_is)
{
	use("builtin");
	ck_assert_uint_eq(loads_of_a_changing_machine(), 0);
}
END_TEST

START_TEST(a_description_stands_in_for_the_machine)
{
	use("synthetic:numa:3 core:2 pu:1");
	load_elsewhere();
	if (hak_topo()->features & HAK_TOPO_HAS_HWLOC) {
		ck_assert_str_eq(hak_topology_source(), "synthetic");
		ck_assert_uint_eq(hak_topology()->nodes, 3);
		ck_assert(!hak_topology()->this_machine);
		ck_assert_uint_ne(hak_node_count, 3);
	}
}
END_TEST

/* Automake says where the sources are; without it the program runs in their root. */
START_TEST(a_recorded_machine_stands_in_for_this_one)
{
	const char *folder = getenv("srcdir");
	char path[4096];
	snprintf(path, sizeof path, "%s/tests/topologies/container.xml", folder ? folder : ".");
	use(path);
	load_elsewhere();
	if (hak_topo()->features & HAK_TOPO_HAS_HWLOC) {
		ck_assert_str_eq(hak_topology_source(), "xml");
		ck_assert_uint_eq(hak_topology()->node[2].os_index, 16);
		ck_assert(!hak_topology()->this_machine && !hak_topology()->node[1].allowed);
		ck_assert_uint_ne(hak_node_count, 3); /* nothing is placed by it */
	}
}
END_TEST

static const char *description;

static int child_has_this_machine(void)
{
	use(description);
	load_here();
	return hak_topology()->this_machine;
}

START_TEST(a_description_that_is_none_leaves_this_machine)
{
	static const char *const none[] = { "synthetic:nonsense:0 of:0", "/proc/self/exe", "/nonexistent.xml" };
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		description = none[i];
		EXPECT(in_child(child_has_this_machine) == 1, "%s", description);
	}
}
END_TEST

/* ---- who uses it ------------------------------------------------------------------- */

static uint64_t went_to;

static int f_getaffinity(size_t bytes, void *mask)
{
	memset(mask, 0, bytes);
	*(unsigned char *)mask = 0x06; /* CPUs 1 and 2, as by taskset or a cpuset */
	return 0;
}

static int f_setaffinity(size_t bytes, const void *mask)
{
	memcpy(&went_to, mask, hak_min(bytes, sizeof went_to));
	return 0;
}

START_TEST(the_reclaimer_goes_to_a_nodes_cpus_as_far_as_they_are_allowed)
{
	static const unsigned char cpus[3][8] = { { 0x03 }, { 0x0c }, { 0x30 } };
	static const struct hak_topo_node nodes[3] = { { .os_index = 0, .cpus = cpus[0] },
						       { .os_index = 1, .cpus = cpus[1] },
						       { .os_index = 70, .cpus = cpus[2] } };
	static struct hak_topology t = { .nodes = 3, .node = nodes, .mask_bytes = 8, .this_machine = true };
	static const struct {
		uint32_t node;
		uint64_t goes_to;
	} batches[] = { { 1, 0x04 }, { 0, 0x02 }, { 70, 0x02 }, { 9, 0x02 }, { HAK_ENGINE_NO_NODE, 0x02 }, { 1, 0x04 } };
	hak_sys.getaffinity = f_getaffinity;
	hak_sys.setaffinity = f_setaffinity;
	atomic_store(&hak_topology_now, &t);
	hak_engine_run(1, MADV_DONTNEED, NULL, 0); /* another thread of the program's, as by malloc_trim */
	ck_assert_uint_eq(went_to, 0);
	hak_engine_prepare();
	for (size_t i = 0; i < sizeof batches / sizeof *batches && !hak_sys_seccomp(); i++) {
		hak_engine_run(batches[i].node, MADV_DONTNEED, NULL, 0);
		ck_assert_uint_eq(went_to, batches[i].goes_to);
	}
	went_to = 0;
	t.this_machine = false;
	hak_engine_run(0, MADV_DONTNEED, NULL, 0);
	ck_assert_uint_eq(went_to, 0);
	/* some filters kill for it */
	t.this_machine = true;
	suite_filter();
	hak_engine_prepare();
	hak_engine_run(0, MADV_DONTNEED, NULL, 0);
	ck_assert_uint_eq(went_to, 0);
}
END_TEST

START_TEST(builtin_loads_nothing)
{
	use("builtin");
	load_elsewhere();
	ck_assert_ptr_null(hak_topo());
	ck_assert_ptr_null(hak_topology());
}
END_TEST

START_TEST(one_node_needs_no_topology)
{
	atomic_store(&hak_node_count, 1);
	hak_topology_load();
	ck_assert_ptr_null(hak_topo());
	ck_assert_ptr_null(hak_topology());
	/* the ring is of the same library */
	ck_assert(hak_topology_enter());
	ck_assert_ptr_nonnull(hak_topology_library());
	hak_topology_leave();
	ck_assert_ptr_nonnull(hak_topo());
	ck_assert_ptr_null(hak_topology());
}
END_TEST

START_TEST(one_node_is_read_where_it_is_asked_for)
{
	use("synthetic:numa:1 core:2 pu:1");
	atomic_store(&hak_node_count, 1);
	hak_topology_load();
	ck_assert_ptr_nonnull(hak_topology());
}
END_TEST

START_TEST(a_library_that_must_not_be_loaded_is_none_for_the_ring_either)
{
	use("builtin");
	ck_assert(hak_topology_enter());
	ck_assert_ptr_null(hak_topology_library());
	hak_topology_leave();
}
END_TEST

START_TEST(a_fork_waits_for_a_load_and_the_child_has_all_of_it)
{
	uint64_t start = now_ms();
	pthread_t thread = begin_slow_load(300);
	ck_assert_int_eq(in_child(child_has_it), 1);
	ck_assert_uint_ge(now_ms() - start, 300);
	pthread_join(thread, NULL);
}
END_TEST

START_TEST(a_load_that_takes_long_delays_a_fork_no_more_than_a_second)
{
	pthread_t thread = begin_slow_load(3000);
	uint64_t start = now_ms();
	/* and the child, where that load was cut off, leaves it */
	ck_assert_int_eq(in_child(child_loads_it), 0);
	ck_assert_uint_ge(now_ms() - start, 1000);
	ck_assert_uint_lt(now_ms() - start, 2500);
	pthread_join(thread, NULL);
	ck_assert_ptr_nonnull(hak_topology());
	/* the lock that fork did not get is the load's to give back */
	start = now_ms();
	ck_assert_int_eq(in_child(child_has_it), 1);
	ck_assert_uint_lt(now_ms() - start, 900);
}
END_TEST

START_TEST(a_child_of_a_fork_before_the_load_loads_it_itself)
{
	ck_assert_int_eq(in_child(child_loads_it), 1);
	ck_assert_ptr_null(hak_topology());
}
END_TEST

static pthread_t waiting;

/* With the dynamic linker's lock held, as in a constructor. */
static int fork_in_callback(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)info;
	(void)size;
	(void)arg;
	ck_assert(!pthread_create(&waiting, NULL, load, NULL));
	usleep(100000); /* the load has its own lock now and waits for the linker's */
	uint64_t start = now_ms();
	ck_assert_int_eq(in_child(child_has_it), 0);
	ck_assert_uint_lt(now_ms() - start, 2500);
	return 1;
}

START_TEST(a_fork_under_the_linkers_lock_is_no_deadlock)
{
	dl_iterate_phdr(fork_in_callback, NULL);
	pthread_join(waiting, NULL);
	ck_assert_ptr_nonnull(hak_topology());
}
END_TEST

START_TEST(under_a_filter_that_came_late_nothing_is_loaded)
{
	ck_assert(hak_sys_may_try(hak_sys_seccomp()));
	suite_filter();
	ck_assert(!hak_sys_may_try(hak_sys_seccomp()));
	load_elsewhere();
	ck_assert_ptr_null(hak_topo());
	/* a program that was started under it, as in a container */
	hak_sys_seccomp_start();
	load_elsewhere();
	ck_assert_ptr_null(hak_topo());
	hak_option_values[HAK_OPT_bind] = HAK_BIND_ON;
	load_elsewhere();
	ck_assert_ptr_nonnull(hak_topology());
}
END_TEST

/* A destructor runs after all handlers of exit, as libnuma's does. */
static bool exit_must_find_it;
__attribute__((destructor)) static void check_at_exit(void)
{
	if (exit_must_find_it && !hak_topology())
		_exit(3);
}

START_TEST(exit_waits_for_a_load)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		exit_must_find_it = true;
		pthread_detach(begin_slow_load(300));
		exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

SUITE("topology", 30, CALM(nothing_is_there_before_the_load), CALM(a_load_publishes_this_machine_once),
      CALM(a_machine_that_changed_is_loaded_again), CALM(a_machine_that_changed_is_not_loaded_where_nothing_is),
      CALM(a_description_stands_in_for_the_machine), CALM(a_recorded_machine_stands_in_for_this_one), CALM(a_description_that_is_none_leaves_this_machine),
      CALM(builtin_loads_nothing), CALM(one_node_needs_no_topology),
      CALM(one_node_is_read_where_it_is_asked_for),
      CALM(a_library_that_must_not_be_loaded_is_none_for_the_ring_either),
      CALM(the_reclaimer_goes_to_a_nodes_cpus_as_far_as_they_are_allowed), CALM(a_fork_waits_for_a_load_and_the_child_has_all_of_it),
      CALM(a_load_that_takes_long_delays_a_fork_no_more_than_a_second),
      CALM(a_child_of_a_fork_before_the_load_loads_it_itself), CALM(a_fork_under_the_linkers_lock_is_no_deadlock),
      CALM(under_a_filter_that_came_late_nothing_is_loaded), CALM(exit_waits_for_a_load))
