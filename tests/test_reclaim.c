/* SPDX-License-Identifier: MIT */
/* Does every engine give memory back alike, whatever the program does around it? */
#include "reclaim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "counters.h"
#include "fast.h"
#include "front.h"
#include "init.h"
#include "numa/arena.h"
#include "numa/engine.h"
#include "numa/huge.h"
#include "numa/topology.h"
#include "options.h"
#include "suite.h"
#include "sys/sys.h"

#define RANGES 100u
#define BYTES ((size_t)64 << 10)
#define MIB ((size_t)1 << 20)

static struct hak_engine_range ranges[RANGES];
static char *region;

/* Ranges with gaps between, all of them touched. */
static void fill(size_t bytes)
{
	size_t all = 2 * RANGES * bytes;
	if (region)
		munmap(region, all);
	region = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(region != MAP_FAILED, "no memory"); /* ck_assert writes to a pipe that some tests close */
	for (unsigned i = 0; i < RANGES; i++)
		ranges[i] = (struct hak_engine_range){ region + 2 * i * bytes, bytes, false };
	for (size_t at = 0; at < all; at += HAK_PAGE)
		region[at] = 1;
}

static bool is_back(unsigned i)
{
	for (size_t at = 0; at < ranges[i].bytes; at += HAK_PAGE)
		if (ranges[i].addr[at])
			return false;
	return true;
}

static void check_gaps(void)
{
	for (unsigned i = 0; i < RANGES; i++)
		for (size_t at = 0; at < BYTES; at += HAK_PAGE)
			EXPECT(region[(2 * i + 1) * BYTES + at] == 1, "the gap after range %u is gone", i);
}

/* On a thread of its own, as the reclaimer: the test's body. */
static void *as_reclaimer(void *body)
{
	void (*run)(void);
	memcpy(&run, &body, sizeof run);
	hak_fork_check(); /* links init.c */
	hak_topology_load();
	hak_engine_prepare();
	run();
	return NULL;
}

static void on_reclaimer(enum hak_reclaim_option how, void (*run)(void))
{
	pthread_t thread;
	void *body;
	memcpy(&body, &run, sizeof body);
	hak_option_values[HAK_OPT_reclaim] = how;
	ck_assert(!pthread_create(&thread, NULL, as_reclaimer, body));
	pthread_join(thread, NULL);
}

static uint64_t milliseconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void release_all(void)
{
	fill(BYTES);
	hak_engine_run(HAK_ENGINE_NO_NODE, MADV_DONTNEED, ranges, RANGES);
	for (unsigned i = 0; i < RANGES; i++)
		EXPECT(ranges[i].done && is_back(i), "range %u is still there", i);
	check_gaps();
}

static bool kernel_has_vectors(void)
{
	struct iovec v = { mmap(NULL, HAK_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), HAK_PAGE };
	return hak_sys.madvise_vector(&v, 1, MADV_DONTNEED) == (ssize_t)HAK_PAGE;
}

static bool kernel_has_rings(void)
{
	struct hak_ring *ring;
	const struct hak_topo_ops *topo = hak_topo();
	return topo && topo->ring && topo->ring->create(1, &ring) == 0 && topo->ring->destroy(ring) == 0;
}

/* One locked page, which the kernel refuses to drop, in one range. */
static void release_all_but_one(void)
{
	const unsigned locked = 37;
	fill(BYTES);
	if (syscall(SYS_mlock, ranges[locked].addr, HAK_PAGE)) /* not libc's: sanitizers ignore it */
		return;
	hak_engine_run(HAK_ENGINE_NO_NODE, MADV_DONTNEED, ranges, RANGES);
	for (unsigned i = 0; i < RANGES; i++)
		if (i != locked)
			EXPECT(ranges[i].done && is_back(i), "range %u is still there", i);
	ck_assert(!ranges[locked].done);
	ck_assert_int_eq(ranges[locked].addr[0], 1);
	check_gaps();
}

START_TEST(every_engine_gives_the_same_result)
{
	for (int how = HAK_RECLAIM_AUTO; how <= HAK_RECLAIM_LOOP; how++) {
		on_reclaimer(how, release_all);
		on_reclaimer(how, release_all_but_one);
	}
	ck_assert_uint_gt(hak_counted(refused_ranges), 0);
}
END_TEST

static void count_loop(void)
{
	release_all();
	ck_assert_uint_eq(hak_counted(loop_ranges), RANGES);
	ck_assert_uint_eq(hak_counted(ring_ranges) + hak_counted(vector_ranges), 0);
	ck_assert_str_eq(hak_engine_name(), "loop");
}

static void count_vector(void)
{
	bool has = kernel_has_vectors();
	release_all();
	ck_assert_uint_eq(hak_counted(vector_ranges), has ? RANGES : 0);
	ck_assert_uint_eq(hak_counted(loop_ranges), has ? 0 : RANGES);
	ck_assert_str_eq(hak_engine_name(), has ? "vector" : "loop");
}

static void count_ring(void)
{
	bool has = kernel_has_rings();
	release_all();
	if (has) {
		ck_assert_uint_eq(hak_counted(ring_ranges), RANGES);
		ck_assert_str_eq(hak_engine_name(), "ring");
	}
	ck_assert_uint_eq(hak_counted(ring_ranges) + hak_counted(vector_ranges) + hak_counted(loop_ranges), RANGES);
}

START_TEST(the_loop_is_used_when_asked_for)
{
	on_reclaimer(HAK_RECLAIM_LOOP, count_loop);
}
END_TEST

START_TEST(vectors_are_used_when_asked_for)
{
	on_reclaimer(HAK_RECLAIM_VECTOR, count_vector);
}
END_TEST

START_TEST(vectors_come_first_by_default)
{
	if (hak_sys_seccomp() == 0 && kernel_has_vectors())
		on_reclaimer(HAK_RECLAIM_AUTO, count_vector);
}
END_TEST

START_TEST(the_ring_is_used_when_asked_for)
{
	on_reclaimer(HAK_RECLAIM_URING, count_ring);
}
END_TEST

static void close_everything(void)
{
	bool ring = kernel_has_rings();
	release_all();
	syscall(SYS_close_range, 3, ~0u, 0);
	for (int i = 0; i < 20; i++) {
		release_all();
		hak_engine_prepare();
		syscall(SYS_close_range, 3, ~0u, 0);
	}
	/* a descriptor of the program's own in the ring's place is left alone */
	hak_engine_prepare();
	syscall(SYS_close_range, 3, ~0u, 0);
	int fd[8];
	for (int i = 0; i < 8; i++)
		EXPECT((fd[i] = open("/dev/null", O_RDWR)) >= 3, "no descriptor");
	for (int i = 0; i < 3; i++) {
		release_all();
		hak_engine_prepare();
	}
	for (int i = 0; i < 8; i++)
		EXPECT(write(fd[i], "x", 1) == 1, "the program's descriptor was closed");
	EXPECT(!ring || hak_option_get(HAK_OPT_reclaim) != HAK_RECLAIM_URING || hak_counted(ring_ranges) >= RANGES,
	       "no ring was used");
}

START_TEST(a_program_that_closes_all_descriptors_loses_nothing)
{
	int status;
	for (int how = HAK_RECLAIM_AUTO; how <= HAK_RECLAIM_VECTOR; how++) {
		pid_t pid = fork(); /* so that Check keeps its pipe */
		if (pid == 0) {
			on_reclaimer(how, close_everything);
			_exit(0);
		}
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_int_eq(status, 0);
	}
}
END_TEST

/* io_urings among the descriptors of this process. */
static void fork_with_a_ring(void)
{
	int status;
	release_all();
	pid_t pid = fork();
	if (pid == 0) {
		if (suite_descriptors("io_uring"))
			_exit(2);
		/* the child's own reclaimer has a ring of its own */
		uint64_t before = hak_counted(ring_ranges);
		on_reclaimer(HAK_RECLAIM_URING, release_all);
		_exit(kernel_has_rings() && hak_counted(ring_ranges) != before + RANGES ? 3 : 0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
	release_all();
	ck_assert(!kernel_has_rings() || hak_counted(ring_ranges) == 2 * RANGES);
}

START_TEST(a_child_of_fork_never_meets_its_parents_ring)
{
	on_reclaimer(HAK_RECLAIM_URING, fork_with_a_ring);
}
END_TEST

static ssize_t no_vectors(const struct iovec *v, size_t n, int advice)
{
	(void)v, (void)n, (void)advice;
	errno = EINVAL;
	return -1;
}

static void ring_only_when_large(void)
{
	release_all();
	ck_assert_ptr_null(hak_topo());
	ck_assert_str_eq(hak_engine_name(), "loop");
	hak_arena_grown = (uint64_t)64 << 20;
	hak_engine_prepare();
	ck_assert_str_eq(hak_engine_name(), kernel_has_rings() ? "ring" : "loop");
}

START_TEST(without_vectors_a_small_process_has_no_ring_and_no_library_for_it)
{
	hak_node_count = 1;
	hak_sys.madvise_vector = no_vectors;
	on_reclaimer(HAK_RECLAIM_AUTO, ring_only_when_large);
}
END_TEST

/* ---- who must see the calls ---- */

static unsigned hooked;
static int hook(void *addr, size_t bytes, int advice)
{
	hooked++;
	return madvise(addr, bytes, advice);
}

START_TEST(a_hook_on_madvise_sees_every_call)
{
	hak_sys.madvise = hook;
	for (int how = HAK_RECLAIM_AUTO; how <= HAK_RECLAIM_LOOP; how++) {
		hooked = 0;
		on_reclaimer(how, release_all);
		ck_assert_uint_ge(hooked, RANGES);
	}
}
END_TEST

static int first_library(struct dl_phdr_info *info, size_t size, void *path)
{
	(void)size;
	if (!strstr(info->dlpi_name, "/libm.so") && !strstr(info->dlpi_name, "/libcheck"))
		return 0;
	strcpy(path, info->dlpi_name);
	return 1;
}

static void load_a_library_of_rdma(void)
{
	char from[4096] = "", folder[] = "/tmp/hakmem-rdma-XXXXXX", to[64];
	struct stat st;
	uint64_t before;
	ck_assert(kernel_has_vectors() == (strcmp(hak_engine_name(), "loop") != 0));
	ck_assert(dl_iterate_phdr(first_library, from));
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(to, sizeof to, "%s/libibverbs.so.1", folder);
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT, 0700);
	ck_assert(in >= 0 && out >= 0 && !fstat(in, &st));
	ck_assert_int_eq(sendfile(out, in, NULL, (size_t)st.st_size), st.st_size);
	close(out);
	void *library = dlopen(to, RTLD_NOW);
	unlink(to);
	rmdir(folder);
	ck_assert_ptr_nonnull(library);
	hak_engine_prepare();
	before = hak_counted(loop_ranges);
	release_all();
	ck_assert_uint_eq(hak_counted(loop_ranges), before + RANGES);
	ck_assert_str_eq(hak_engine_name(), "loop");
}

START_TEST(an_rdma_library_that_comes_late_gets_the_loop)
{
	on_reclaimer(HAK_RECLAIM_VECTOR, load_a_library_of_rdma);
}
END_TEST

static void under_a_filter(void)
{
	/* kills for both calls that it does not know */
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_madvise, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_io_uring_setup, 0, 2),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_io_uring_register, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
	release_all();
	ck_assert(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ck_assert(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	hak_engine_prepare();
	release_all();
	ck_assert_str_eq(hak_engine_name(), "loop");
}

START_TEST(a_filter_that_kills_is_not_met)
{
	on_reclaimer(HAK_RECLAIM_AUTO, under_a_filter);
}
END_TEST

static void without_descriptors(void)
{
	const struct rlimit none = { 3, 3 };
	EXPECT(!setrlimit(RLIMIT_NOFILE, &none), "no limit");
	hak_engine_prepare();
	release_all();
}

START_TEST(without_descriptors_memory_goes_back_as_well)
{
	int status;
	for (int how = HAK_RECLAIM_AUTO; how <= HAK_RECLAIM_VECTOR; how++) {
		pid_t pid = fork();
		if (pid == 0) {
			const struct rlimit none = { 3, 3 };
			setrlimit(RLIMIT_NOFILE, &none);
			on_reclaimer(how, without_descriptors);
			_exit(0);
		}
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_int_eq(status, 0);
	}
}
END_TEST

static bool locked_line(const char *line, void *arg)
{
	(void)arg;
	return strncmp(line, "VmLck:", 6) == 0 && atol(line + 6) > 0;
}

static int under_mlockall(void)
{
	char *block[8];
	/* sanitizers ignore it, with reason: they would lock their shadows */
	if (mlockall(MCL_CURRENT | MCL_FUTURE) || !hak_sys_each_line("/proc/self/status", locked_line, NULL))
		return 77;
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 8; i++) {
			block[i] = hak_calloc(1, 2 * MIB + 300);
			if (!block[i] || block[i][2 * MIB])
				return 2;
			memset(block[i], 1, 2 * MIB + 300);
		}
		for (int i = 0; i < 8; i++)
			hak_free(block[i]);
		hak_reclaim_all();
	}
	/* the kernel keeps what is locked; and it was free to be used again */
	return hak_counted(refused_ranges) == 0 ? 3 : hak_counted(span_mapped) > 40 * MIB ? 4 : 0;
}

START_TEST(locked_memory_stays_and_is_used_again)
{
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(under_mlockall());
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77);
}
END_TEST

/* Grows until the reclaimer runs, then frees, and waits until most of it is back. */
static bool reclaims_by_itself(void)
{
	void *block[40];
	uint64_t before = hak_counted(released);
	for (int i = 0; i < 40; i++)
		memset(block[i] = hak_malloc(2 * MIB), 1, 2 * MIB);
	hak_free(hak_malloc(2 * MIB));
	for (int i = 0; i < 40; i++)
		hak_free(block[i]);
	for (int i = 0; i < 1000 && hak_counted(released) < before + 70 * MIB; i++)
		usleep(10000);
	return hak_reclaim_running() && hak_counted(released) >= before + 70 * MIB;
}

START_TEST(a_daemon_has_a_reclaimer_of_its_own)
{
	int status, result[2];
	char answer = 0;
	hak_option_values[HAK_OPT_decay_ms] = 100;
	ck_assert(reclaims_by_itself());
	ck_assert(!pipe(result));
	pid_t pid = fork();
	if (pid == 0) {
		setsid();
		if (fork())
			_exit(0);
		dup2(result[1], 0);
		syscall(SYS_close_range, 1, ~0u, 0);
		answer = reclaims_by_itself() ? 'y' : 'n';
		_exit(write(0, &answer, 1) != 1);
	}
	close(result[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(read(result[0], &answer, 1), 1);
	ck_assert_int_eq(answer, 'y');
	/* and the parent's goes on */
	ck_assert(reclaims_by_itself());
}
END_TEST

/* ---- batches ---- */

START_TEST(neighbours_go_back_as_one_range)
{
	enum { BLOCKS = 12 };
	void *block[BLOCKS];
	hak_reclaim_all();
	for (int i = 0; i < BLOCKS; i++) {
		block[i] = hak_malloc(4 * MIB);
		memset(block[i], 1, 4 * MIB);
	}
	for (int i = 0; i < BLOCKS; i++)
		hak_free(block[i]);
	uint64_t before = hak_counted(loop_ranges);
	/* whole SuperSlabs go; the last may reach beyond what was touched */
	ck_assert_uint_ge(hak_reclaim_all(), BLOCKS * 4 * MIB);
	ck_assert_uint_le(hak_counted(loop_ranges) - before, 3);
}
END_TEST

START_TEST(what_is_refused_stays_free_and_is_used_again)
{
	void *p = hak_malloc(4 * MIB);
	memset(p, 7, 4 * MIB);
	if (syscall(SYS_mlock, p, HAK_PAGE) == 0) {
		uint64_t before = hak_counted(refused_ranges);
		hak_free(p);
		hak_reclaim_all();
		ck_assert_uint_gt(hak_counted(refused_ranges), before);
		char *q = hak_calloc(1, 4 * MIB);
		ck_assert_ptr_eq(q, p);
		for (size_t i = 0; i < 4 * MIB; i += 512)
			EXPECT(q[i] == 0, "byte %zu is not zero", i);
		hak_free(q);
	}
}
END_TEST

START_TEST(memory_in_use_between_two_looks_stays)
{
	/* the reclaimer starts, and has nothing else to give back */
	void *large = hak_malloc(64 * MIB - 1), *small = hak_malloc(40000);
	ck_assert(large && small);
	for (int i = 0; i < 400 && !hak_reclaim_running(); i++)
		hak_free(hak_malloc(300 << 10));
	ck_assert(hak_reclaim_running());
	uint64_t before, longest;
	int tries = 0;
	bool disturbed;
	do { /* again if the machine kept this thread waiting for half of the decay time, or was short of memory */
		hak_reclaim_all();
		uint64_t pressed = hak_counted(pressed);
		before = hak_counted(released);
		longest = 0;
		/* free most of the time, so free at nearly every look: of spans, and of slabs */
		for (int i = 0; i < 110; i++) {
			uint64_t begin = milliseconds();
			void *p = hak_malloc(4 * MIB), *q = hak_malloc(900 << 10);
			memset(p, 1, 4 * MIB);
			memset(q, 1, 900 << 10);
			hak_free(p);
			hak_free(q);
			usleep(20000);
			longest = hak_max(longest, milliseconds() - begin);
		}
		disturbed = longest > 500 || hak_counted(pressed) != pressed;
	} while (disturbed && ++tries < 5);
	/* a run may have got another place once */
	EXPECT(hak_counted(released) <= before + MIB || disturbed, "%zu bytes were given back",
	       (size_t)(hak_counted(released) - before));
	for (int i = 0; i < 500 && hak_counted(released) < before + 4 * MIB; i++)
		usleep(10000);
	ck_assert_uint_ge(hak_counted(released), before + 4 * MIB);
}
END_TEST

/* ---- parts of huge pages ---- */

#define RUN ((size_t)320 << 10) /* 5 granules: 6 of them a SuperSlab */
#define RUNS 48

static unsigned char *run[RUNS];

static void touch(int i)
{
	run[i] = hak_malloc(RUN);
	EXPECT(run[i], "no memory");
	memset(run[i], i + 1, RUN);
}

/* All on huge pages; then 5 of each 6 are free. */
static void make_sparse(void)
{
	hak_option_values[HAK_OPT_huge_zone_kib] = 0;
	hak_option_values[HAK_OPT_huge_price] = 0;
	hak_option_values[HAK_OPT_huge_proof] = 0;
	hak_option_values[HAK_OPT_ahead] = 0; /* what is made ready is resident as well */
	for (int i = 0; i < RUNS; i++)
		touch(i);
	for (int i = 0; i < RUNS; i++)
		if (i % 6) {
			hak_free(run[i]);
			run[i] = NULL;
		}
}

static void check_runs(void)
{
	for (int i = 0; i < RUNS; i++)
		for (size_t at = 0; run[i] && at < RUN; at += 61)
			EXPECT(run[i][at] == (unsigned char)(i + 1), "run %d, byte %zu", i, at);
}

static void check_unused_of(struct hak_arena *a, void *arg)
{
	(void)arg;
	for (uint32_t g = 0; g < HAK_ARENA_GRANULES; g++) {
		const char *p = a->base + (size_t)g * HAK_GRANULE;
		uint64_t word = atomic_load_explicit(&a->super[g / 32], memory_order_relaxed);
		for (size_t at = 0; HAK_WORD_UNUSED(word) >> g % 32 & 1 && at < HAK_GRANULE; at += 64)
			EXPECT(p[at] == 0, "granule %u is not zero at byte %zu", g, at);
	}
}

/* calloc relies on it. */
static void check_unused(void)
{
	hak_arena_each(check_unused_of, NULL);
}

struct figures {
	uint64_t resident, huge; /* KiB of the arenas of a kind */
	uint8_t kind;
	bool ours;
};

static bool smaps_line(const char *line, void *arg)
{
	struct figures *f = arg;
	if (strchr(line, '-') && strchr(line, '-') < strchr(line, ' ')) {
		const struct hak_arena *a = hak_arena_of((void *)(uintptr_t)strtoull(line, NULL, 16));
		f->ours = a && a->kind == f->kind;
	} else if (f->ours && !strncmp(line, "Rss:", 4)) {
		f->resident += strtoull(line + 4, NULL, 10);
	} else if (f->ours && !strncmp(line, "AnonHugePages:", 14)) {
		f->huge += strtoull(line + 14, NULL, 10);
	}
	return false;
}

static struct figures look_at(uint8_t kind)
{
	struct figures f = { .kind = kind };
	hak_sys_each_line("/proc/self/smaps", smaps_line, &f);
	return f;
}

static struct figures look(void)
{
	return look_at(HAK_ARENA_SLABS);
}

static bool kernel_has_guards(void)
{
	char *p = mmap(NULL, HAK_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return madvise(p, HAK_PAGE, 102 /* MADV_GUARD_INSTALL */) == 0;
}

static void half_gives_its_part_back(void)
{
	make_sparse();
	struct figures before = look();
	hak_reclaim_all();
	struct figures after = look();
	check_runs();
	check_unused();
	if (before.huge < 8 * 2048 || !kernel_has_guards())
		return; /* this machine gives no huge pages, or could not keep them split */
	ck_assert_uint_eq(hak_counted(splits), 8);
	ck_assert_uint_eq(hak_counted(guards), 8);
	ck_assert_uint_eq(after.huge, 0);
	/* what is live, and the first step of the small zone */
	EXPECT(after.resident <= 8 * RUN / 1024 + 1024, "%zu KiB resident", (size_t)after.resident);
}

START_TEST(a_huge_page_that_is_half_empty_gives_that_part_back)
{
	half_gives_its_part_back();
}
END_TEST

/* As khugepaged at its fastest. */
static int collapse_and_advise(void *addr, size_t bytes, int advice)
{
	char *super = (char *)((uintptr_t)addr & ~(uintptr_t)(HAK_SUPER - 1));
	madvise(super, HAK_SUPER, 25 /* MADV_COLLAPSE */);
	return madvise(addr, bytes, advice);
}

START_TEST(khugepaged_between_two_calls_fills_nothing_in)
{
	hak_sys.madvise = collapse_and_advise;
	half_gives_its_part_back();
}
END_TEST

/* The small zone ends in the middle of a SuperSlab: what is mapped of that is all of it. */
START_TEST(a_guard_where_the_small_zone_ends_goes_when_all_is_free)
{
	suite_quiet();
	if (!kernel_has_guards())
		return;
	void *p = hak_malloc(64);
	struct hak_arena *a = hak_arena_of(p);
	uint32_t end = atomic_load(&a->small_end), super = (end - 1) / 32, bit = (end - 1) % 32;
	EXPECT(bit != 31, "the small zone is %u granules", end);
	/* the last one is kept out of the pool, as after a split */
	uint64_t taken = HAK_WORD((uint32_t)1 << bit, (uint32_t)1 << bit);
	EXPECT(atomic_fetch_and(&a->super[super], ~taken) & taken, "granule %u is in use", end - 1);
	EXPECT(!madvise(a->base + (size_t)(end - 1) * HAK_GRANULE, HAK_PAGE, 102 /* MADV_GUARD_INSTALL */), "no guard page");
	a->guard[super] = (uint8_t)(bit + 1);
	hak_count(guards, 1);
	hak_free(p);
	hak_heap_empty(hak_heap_self);
	hak_reclaim_all();
	ck_assert_uint_eq(a->guard[super], 0);
	uint64_t word = atomic_load(&a->super[super]);
	ck_assert_uint_eq(__builtin_popcountll(word & taken), 1);
	*(volatile char *)(a->base + (size_t)(end - 1) * HAK_GRANULE) = 1;
}
END_TEST

static int refuse_guards(void *addr, size_t bytes, int advice)
{
	if (advice == 102 /* MADV_GUARD_INSTALL */) {
		errno = EINVAL;
		return -1;
	}
	return madvise(addr, bytes, advice);
}

START_TEST(what_khugepaged_would_fill_again_stays_until_memory_is_short)
{
	hak_sys.madvise = hak_sys.madvise_own = refuse_guards;
	make_sparse();
	struct figures before = look();
	hak_reclaim_all();
	ck_assert_uint_eq(hak_counted(splits), 0);
	ck_assert_uint_eq(look().huge, before.huge);
	hak_reclaim_last();
	ck_assert_uint_gt(hak_counted(splits), 0);
	ck_assert_uint_eq(look().huge, 0);
	check_runs();
	check_unused();
}
END_TEST

static size_t refuses; /* to drop ranges of so many bytes, or more */
static int refuse_to_drop(void *addr, size_t bytes, int advice)
{
	if (advice == MADV_DONTNEED && bytes >= refuses) {
		errno = EINVAL;
		return -1;
	}
	return madvise(addr, bytes, advice);
}

/* The pages are guarded, then the kernel refuses to drop their free parts. */
static void refuse_parts(void)
{
	hak_sys.madvise = refuse_to_drop;
	refuses = 1;
	make_sparse();
	hak_reclaim_last(); /* without guards as well */
	ck_assert_uint_gt(hak_counted(refused_ranges), 0);
	check_unused();
}

START_TEST(what_was_guarded_and_then_refused_is_not_taken_for_zero)
{
	refuse_parts();
	refuses = SIZE_MAX;
	for (int i = 0; i < RUNS; i++)
		if (!run[i])
			touch(i);
	hak_reclaim_all();
	hak_reclaim_all(); /* nearly full: the guards go */
	ck_assert_uint_eq(hak_counted(guards), 0);
	check_runs();
	check_unused();
}
END_TEST

START_TEST(what_is_refused_as_a_whole_is_not_taken_for_zero)
{
	refuse_parts();
	refuses = HAK_SUPER;
	for (int i = 0; i < RUNS; i++)
		hak_free(run[i]);
	hak_reclaim_all();
	ck_assert_uint_eq(hak_counted(guards), 0);
	check_unused();
}
END_TEST

START_TEST(all_of_a_split_page_free_again_makes_it_whole)
{
	make_sparse();
	hak_reclaim_all();
	for (int i = 0; i < RUNS; i++) {
		hak_free(run[i]);
		run[i] = NULL;
	}
	hak_reclaim_all();
	ck_assert_uint_eq(hak_counted(guards), 0);
	/* huge pages once more, and none of the granules is lost */
	struct figures before = look();
	for (int i = 0; i < RUNS; i++)
		touch(i);
	check_runs();
	struct figures after = look();
	ck_assert(after.huge >= before.huge + 8 * 2048 || !hak_counted(splits) || !kernel_has_guards());
}
END_TEST

/* Large blocks lie side by side, so those that live share huge pages with those that were freed. */
START_TEST(huge_pages_at_the_ends_of_large_blocks_are_split_as_well)
{
	static unsigned char *block[60];
	size_t bytes = 52 * HAK_GRANULE;
	suite_quiet();
	for (int i = 0; i < 60; i++) {
		ck_assert_ptr_nonnull(block[i] = hak_malloc(bytes));
		memset(block[i], i + 1, bytes);
	}
	struct figures before = look_at(HAK_ARENA_SPANS);
	for (int i = 1; i < 60; i += 2)
		hak_free(block[i]);
	hak_reclaim_all();
	struct figures after = look_at(HAK_ARENA_SPANS);
	if (before.resident * 1024 < 60 * bytes || before.huge < before.resident / 2 || !kernel_has_guards())
		return; /* as above */
	ck_assert_uint_gt(hak_counted(guards), 15);
	/* less than half a huge page at either end stays */
	ck_assert_uint_le(after.resident, 30 * (bytes + HAK_SUPER / 4) / 1024);
	check_unused_of(hak_span_arenas, NULL);
	/* the guards' granules are nobody's, and lie at the ends of what is free */
	size_t less = bytes - 2 * HAK_GRANULE;
	for (int i = 1; i < 60; i += 2) {
		ck_assert_ptr_nonnull(block[i] = hak_calloc(1, less));
		ck_assert(block[i] > block[i - 1] && block[i] < block[i - 1] + 2 * bytes);
		for (size_t at = 0; at < less; at++)
			EXPECT(!block[i][at], "byte %zu of %p", at, (void *)block[i]);
		memset(block[i], i + 1, less);
	}
	for (int i = 0; i < 60; i++) {
		for (size_t at = 0; at < (i % 2 ? less : bytes); at++)
			EXPECT(block[i][at] == i + 1, "byte %zu of %p", at, (void *)block[i]);
		hak_free(block[i]);
	}
	hak_reclaim_all();
	ck_assert_uint_eq(hak_counted(guards), 0);
	ck_assert_uint_le(look_at(HAK_ARENA_SPANS).resident, 64);
}
END_TEST

START_TEST(a_split_page_that_fills_again_is_collapsed)
{
	make_sparse();
	hak_reclaim_all();
	uint64_t split = hak_counted(splits);
	if (!hak_counted(guards))
		return;
	for (int i = 0; i < RUNS; i++)
		if (!run[i])
			touch(i);
	/* the guard took a granule, so the last run of each did not fit: smaller ones do */
	void *small[4 * RUNS];
	for (int i = 0; i < 4 * RUNS; i++)
		small[i] = hak_malloc(HAK_GRANULE * 4 + 1);
	hak_reclaim_all();
	ck_assert_uint_lt(hak_counted(guards), split);
	ck_assert_uint_gt(hak_counted(collapses), 0);
	check_runs();
	for (int i = 0; i < 4 * RUNS; i++)
		hak_free(small[i]);
}
END_TEST

/* ---- namespaces ------------------------------------------------------------------- */

/* The kernel lets no process with threads have a user namespace of its own; ThreadSanitizer has one. */
START_TEST(a_program_with_little_to_give_back_may_have_a_user_namespace)
{
	for (int i = 0; i < 100; i++) {
		char *p = hak_malloc((size_t)100 << 10);
		p[0] = 1;
		hak_free(p);
	}
	ck_assert(!hak_reclaim_running());
#if !defined(__SANITIZE_THREAD__)
	errno = 0;
	ck_assert(unshare(CLONE_NEWUSER) == 0 || errno != EINVAL);
#endif
}
END_TEST

/* Its thread stays in the old mount namespace, which has the same /proc for it. */
START_TEST(in_a_new_mount_namespace_memory_goes_back_as_well)
{
	hak_option_values[HAK_OPT_decay_ms] = 100;
	hak_free(hak_malloc(((size_t)64 << 20) - 1));
	for (int i = 0; i < 1000 && !hak_reclaim_running(); i++) {
		hak_free(hak_malloc((size_t)2 << 20));
		usleep(1000);
	}
	ck_assert(hak_reclaim_running());
	if (unshare(CLONE_NEWNS) != 0)
		return; /* not root */
	uint64_t before = hak_counted(released);
	char *p = hak_malloc((size_t)40 << 20);
	memset(p, 1, (size_t)40 << 20);
	hak_free(p);
	for (int i = 0; i < 1000 && hak_counted(released) < before + ((size_t)30 << 20); i++)
		usleep(10000);
	ck_assert_uint_ge(hak_counted(released), before + ((size_t)30 << 20));
}
END_TEST

/* ---- ahead of need ---------------------------------------------------------------- */

#define GROWN_MOST ((size_t)2 << 30)
#define GROWN_BLOCK ((size_t)48 << 10)

/* Grows, 2 MiB a millisecond at most, until the reclaimer has made memory ready, if it does. */
static void grow_until_populated(size_t most)
{
	hak_option_values[HAK_OPT_huge_price] = 0; /* which makes one ready as well, and may find it dear */
	for (size_t grown = 0; grown < most && !hak_counted(populated); grown += GROWN_BLOCK) {
		char *p = hak_malloc(GROWN_BLOCK);
		EXPECT(p, "no memory");
		memset(p, 1, GROWN_BLOCK);
		if (grown % HAK_SUPER < GROWN_BLOCK)
			usleep(1000);
	}
}

START_TEST(a_heap_that_grows_finds_huge_pages_ready)
{
	cpu_set_t cpus;
	if (sched_getaffinity(0, sizeof cpus, &cpus) || CPU_COUNT(&cpus) < 2)
		return; /* nobody would make them ready */
	hak_option_values[HAK_OPT_decay_ms] = 200;
	grow_until_populated(GROWN_MOST);
	ck_assert_uint_gt(hak_counted(populated), 0);
	/* some of the first may be in use by now */
	ck_assert_uint_le(hak_counted(populated), 2 * (uint64_t)hak_option_get(HAK_OPT_ahead) * HAK_SUPER);
	/* what the heap does not come to fetch goes back */
	for (int i = 0; i < 1000 && !hak_counted(released); i++)
		usleep(10000);
	ck_assert_uint_gt(hak_counted(released), 0);
	/* nor is more made for one that begins huge pages and has no more for it than the last time */
	unsigned node = hak_heap_self->node; /* wherever this thread runs by now */
	hak_reclaim_begun(node);
	usleep(100000);
	uint64_t before = hak_counted(populated);
	for (int i = 0; i < 200; i++) { /* longer than anything ready stays */
		hak_reclaim_begun(node);
		usleep(5000);
	}
	ck_assert_uint_eq(hak_counted(populated), before);
}
END_TEST

START_TEST(for_a_small_heap_nothing_is_made_ready)
{
	grow_until_populated((size_t)28 << 20);
	usleep(100000);
	ck_assert_uint_eq(hak_counted(populated), 0);
}
END_TEST

START_TEST(without_the_option_nothing_is_made_ready)
{
	hak_option_values[HAK_OPT_ahead] = 0;
	grow_until_populated((size_t)256 << 20);
	ck_assert(hak_reclaim_running());
	ck_assert_uint_eq(hak_counted(populated), 0);
}
END_TEST

#define KHUGEPAGED "/sys/kernel/mm/transparent_hugepage/khugepaged/"

static long read_number(const char *name)
{
	char path[128], text[32] = "";
	snprintf(path, sizeof path, KHUGEPAGED "%s", name);
	return hak_sys.read_file(path, text, sizeof text) > 0 ? atol(text) : -1;
}

static bool write_number(const char *name, long n)
{
	char path[128], text[32];
	snprintf(path, sizeof path, KHUGEPAGED "%s", name);
	int fd = open(path, O_WRONLY), len = snprintf(text, sizeof text, "%ld", n);
	bool ok = fd >= 0 && write(fd, text, (size_t)len) == len;
	if (fd >= 0)
		close(fd);
	return ok;
}

#define HURRIED_MS 10
#define HURRIED_PAGES 1000000

/* Waits until khugepaged has been through all memory twice. It is the machine's: so one process at a
 * time makes it hurry, and what one that was killed has left is put right. False: only root can; at its
 * default pace it takes minutes. */
static bool let_khugepaged_pass_twice(void)
{
	long sleep_ms = read_number("scan_sleep_millisecs"), pages = read_number("pages_to_scan");
	int lock = open(KHUGEPAGED "pages_to_scan", O_RDONLY);
	bool hurried = lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0 &&
		       write_number("scan_sleep_millisecs", HURRIED_MS) && write_number("pages_to_scan", HURRIED_PAGES);
	long passes = read_number("full_scans");
	for (int i = 0; hurried && i < 500 && read_number("full_scans") < passes + 3; i++)
		usleep(10000);
	bool passed = hurried && read_number("full_scans") >= passes + 3;
	if (hurried) {
		write_number("scan_sleep_millisecs", sleep_ms == HURRIED_MS ? 10000 : sleep_ms);
		write_number("pages_to_scan", pages == HURRIED_PAGES ? 4096 : pages);
	}
	if (lock >= 0)
		close(lock);
	return passed;
}

START_TEST(khugepaged_does_not_fill_what_was_given_back)
{
	make_sparse();
	hak_reclaim_all();
	struct figures before = look();
	if (!hak_counted(splits) || !kernel_has_guards() || !let_khugepaged_pass_twice())
		return;
	struct figures after = look();
	EXPECT(after.resident <= before.resident + 64, "it grew from %llu to %llu KiB",
	       (unsigned long long)before.resident, (unsigned long long)after.resident);
	check_runs();
}
END_TEST

SUITE("reclaim", 60, CALM(every_engine_gives_the_same_result), CALM(the_loop_is_used_when_asked_for),
      CALM(vectors_are_used_when_asked_for), CALM(vectors_come_first_by_default),
      CALM(the_ring_is_used_when_asked_for), CALM(a_program_that_closes_all_descriptors_loses_nothing),
      CALM(a_child_of_fork_never_meets_its_parents_ring),
      CALM(without_vectors_a_small_process_has_no_ring_and_no_library_for_it), CALM(a_hook_on_madvise_sees_every_call),
      CALM(an_rdma_library_that_comes_late_gets_the_loop), CALM(a_filter_that_kills_is_not_met),
      CALM(without_descriptors_memory_goes_back_as_well), CALM(locked_memory_stays_and_is_used_again),
      CALM(a_daemon_has_a_reclaimer_of_its_own), CALM(neighbours_go_back_as_one_range),
      CALM(what_is_refused_stays_free_and_is_used_again),
      CALM(memory_in_use_between_two_looks_stays),
      CALM(a_huge_page_that_is_half_empty_gives_that_part_back), CALM(khugepaged_between_two_calls_fills_nothing_in),
      CALM(what_khugepaged_would_fill_again_stays_until_memory_is_short),
      CALM(a_guard_where_the_small_zone_ends_goes_when_all_is_free),
      CALM(what_was_guarded_and_then_refused_is_not_taken_for_zero),
      CALM(what_is_refused_as_a_whole_is_not_taken_for_zero), CALM(all_of_a_split_page_free_again_makes_it_whole),
      CALM(huge_pages_at_the_ends_of_large_blocks_are_split_as_well),
      CALM(a_split_page_that_fills_again_is_collapsed), CALM(khugepaged_does_not_fill_what_was_given_back),
      CALM(a_heap_that_grows_finds_huge_pages_ready), CALM(for_a_small_heap_nothing_is_made_ready), CALM(without_the_option_nothing_is_made_ready),
      CALM(a_program_with_little_to_give_back_may_have_a_user_namespace),
      CALM(in_a_new_mount_namespace_memory_goes_back_as_well))
