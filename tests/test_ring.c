/* SPDX-License-Identifier: MIT */
/*
 * Does the ring of libhakmem-topo.so really give memory back, and only what it was asked for?
 *
 * Linked with the library itself, through its one door. A build without liburing and a kernel without
 * io_uring are skipped and said so.
 */
#include "topo/topo.h"

#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define MIB ((size_t)1 << 20)
#define FOREVER UINT64_MAX

static const struct hak_ring_ops *rings(void)
{
	return hak_topo_open(HAK_TOPO_ABI)->ring;
}

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

	ck_assert_int_eq(rings()->create(HAK_RING_ENTRIES_MAX, &ring), 0);
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
	ck_assert_int_eq(rings()->submit(ring, batch, 16, &taken), 0);
	ck_assert_uint_eq(taken, 16);
	ck_assert_int_eq(rings()->wait(ring, 16, FOREVER, tally, &t), 0);
	ck_assert_uint_eq(t.calls, 16);
	ck_assert_uint_eq(t.seen, 0xffff);
	ck_assert_uint_eq(rings()->in_flight(ring), 0);
	for (unsigned i = 0; i < 32; i++) {
		bool freed = i % 2 == 0;

		ck_assert_int_eq(t.result[i / 2], 0);
		ck_assert_uint_eq(resident_pages(p + i * piece, piece), freed ? 0 : pages);
		for (size_t at = 0; at < piece; at += 509)
			EXPECT(p[i * piece + at] == (freed ? 0 : 0xa5), "piece %u, byte %zu", i, at);
	}
	munmap(p, bytes);
}

START_TEST(exactly_the_asked_pages_go_back)
{
	struct hak_ring *ring = make_ring();

	for (int round = 0; round < 20; round++)
		give_back(ring);
	ck_assert_int_eq(rings()->destroy(ring), 0);
}
END_TEST

START_TEST(a_ring_takes_as_many_as_it_has_entries)
{
	struct hak_ring *ring = NULL;
	struct hak_ring_request batch[9];
	unsigned char *p = dirty_pages(MIB);
	struct tally t = { 0 };
	unsigned taken = 99;

	ck_assert_int_eq(rings()->create(0, &ring), -EINVAL);
	ck_assert_int_eq(rings()->create(HAK_RING_ENTRIES_MAX + 1, &ring), -EINVAL);
	ck_assert_int_eq(rings()->create(8, &ring), 0);
	for (unsigned i = 0; i < 9; i++)
		batch[i] = (struct hak_ring_request){ p + i * 65536, 65536, MADV_DONTNEED, i };
	ck_assert_int_eq(rings()->submit(ring, batch, 9, &taken), -EAGAIN);
	ck_assert_uint_eq(taken, 0);
	ck_assert_int_eq(rings()->submit(ring, batch, 8, &taken), 0);
	ck_assert_uint_eq(rings()->in_flight(ring), 8);
	ck_assert_int_eq(rings()->submit(ring, batch + 8, 1, &taken), -EAGAIN);
	ck_assert_int_eq(rings()->destroy(ring), -EBUSY);
	ck_assert_int_eq(rings()->wait(ring, 8, FOREVER, tally, &t), 0);
	ck_assert_int_eq(rings()->submit(ring, batch + 8, 1, &taken), 0);
	ck_assert_int_eq(rings()->wait(ring, 99, FOREVER, tally, &t), 0);
	ck_assert_uint_eq(t.calls, 9);
	ck_assert_uint_eq(resident_pages(p, 9 * 65536), 0);
	ck_assert_uint_ne(resident_pages(p + 9 * 65536, MIB - 9 * 65536), 0);
	ck_assert_int_eq(rings()->destroy(ring), 0);
	munmap(p, MIB);
}
END_TEST

START_TEST(a_batch_is_refused_whole)
{
	struct hak_ring *ring = make_ring();
	unsigned char *p = dirty_pages(65536);
	struct hak_ring_request batch[2] = { { p, 65536, MADV_DONTNEED, 0 },
					     { p, 1ull << 32, MADV_DONTNEED, 1 } };
	struct tally t = { 0 };
	unsigned taken = 99;

	ck_assert_int_eq(rings()->submit(ring, batch, 2, &taken), -EINVAL);
	ck_assert_uint_eq(taken, 0);
	batch[1].bytes = 0;
	ck_assert_int_eq(rings()->submit(ring, batch, 2, &taken), -EINVAL);
	ck_assert_int_eq(rings()->wait(ring, 1, FOREVER, tally, &t), 0);
	ck_assert_uint_eq(t.calls, 0);
	ck_assert_int_eq(p[0], 0xa5);
	ck_assert_int_eq(rings()->destroy(ring), 0);
}
END_TEST

START_TEST(madvises_own_errors_are_handed_on)
{
	struct hak_ring *ring = make_ring();
	unsigned char *p = dirty_pages(3 * 65536);
	struct hak_ring_request batch[3] = { { p, 65536, MADV_DONTNEED, 0 },
					     { p + 65536, 65536, MADV_DONTNEED, 1 },
					     { p + 2 * 65536, 65536, 0x7fff, 2 } };
	struct tally t = { 0 };
	unsigned taken;

	ck_assert_int_eq(munmap(p + 65536, 65536), 0);
	ck_assert_int_eq(rings()->submit(ring, batch, 3, &taken), 0);
	ck_assert_int_eq(rings()->wait(ring, 3, FOREVER, tally, &t), 0);
	ck_assert_int_eq(t.result[0], 0);
	ck_assert_int_eq(t.result[1], -ENOMEM);
	ck_assert_int_eq(t.result[2], -EINVAL);
	ck_assert_int_eq(p[0], 0);
	ck_assert_int_eq(p[2 * 65536], 0xa5);
	ck_assert_int_eq(rings()->destroy(ring), 0);
}
END_TEST

START_TEST(waiting_takes_no_longer_than_told)
{
	struct hak_ring *ring = make_ring();
	const size_t bytes = 64 * MIB;
	unsigned char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct hak_ring_request one = { p, bytes, MADV_POPULATE_WRITE, 0 };
	struct tally t = { 0 };
	unsigned taken;
	int error;

	ck_assert_int_eq(rings()->wait(ring, 1, 0, tally, &t), 0);
	ck_assert_int_eq(rings()->submit(ring, &one, 1, &taken), 0);
	/* 16,384 page faults take longer than a microsecond. */
	error = rings()->wait(ring, 1, 1000, tally, &t);
	ck_assert_int_eq(error, -ETIME);
	ck_assert_uint_eq(t.calls, 0);
	while ((error = rings()->wait(ring, 1, 0, tally, &t)) == -ETIME)
		sched_yield();
	ck_assert_int_eq(error, 0);
	ck_assert_uint_eq(t.calls, 1);
	ck_assert_int_eq(t.result[0], 0);
	ck_assert_uint_eq(resident_pages(p, bytes), bytes / (size_t)sysconf(_SC_PAGESIZE));
	ck_assert_int_eq(rings()->destroy(ring), 0);
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

	ck_assert_int_eq(rings()->limit_workers(ring, 0), -EINVAL);
	ck_assert_int_eq(rings()->limit_workers(ring, 2), 0);
	ck_assert_int_eq(rings()->bind_workers(ring, node->cpus, bound->machine->mask_bytes), 0);
	ck_assert_int_eq(rings()->submit(ring, &one, 1, &taken), 0);
	ck_assert_int_eq(rings()->wait(ring, 1, FOREVER, tally, &t), 0);
	ck_assert_int_eq(t.result[0], 0);
	for (size_t at = 0; at < MIB; at += 4096) {
		void *page = p + at;
		int where = -1;

		ck_assert_int_eq((int)syscall(SYS_move_pages, 0, 1ul, &page, NULL, &where, 0), 0);
		EXPECT(where == node->os_index, "page on node %d, workers on node %u", where,
		       node->os_index);
	}
	munmap(p, MIB);
	ck_assert_int_eq(rings()->destroy(ring), 0);
	return NULL;
}

/*
 * First touch by the ring's own threads: their CPUs decide where the pages lie. A thread for each
 * node, because the kernel's threads are bound when they start.
 */
START_TEST(a_ring_works_on_the_cpus_it_was_given)
{
	struct hak_topology *machine = NULL;
	unsigned judged = 0;

	ck_assert_int_eq(hak_topo_open(HAK_TOPO_ABI)->load(NULL, NULL, &machine), 0);
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
	munmap(machine, machine->bytes);
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
	unsigned traits = rings()->traits(ring);
	int fd = find_ring_descriptor(3), other;
	struct hak_ring_request one = { dirty_pages(65536), 65536, MADV_DONTNEED, 0 };
	unsigned char mask[8] = { 1 };
	unsigned taken;

	ck_assert_int_eq(fd < 0, !!(traits & HAK_RING_NO_DESCRIPTOR));
	if (fd < 0) {
		ck_assert_int_eq(rings()->destroy(ring), 0);
		return;
	}
	ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	ck_assert_int_eq(close(fd), 0);
	other = reuse ? reuse() : -1;
	ck_assert(!reuse || other == fd);
	ck_assert_int_eq(rings()->bind_workers(ring, mask, sizeof(mask)), -EBADF);
	ck_assert_int_eq(rings()->limit_workers(ring, 1), -EBADF);
	if (traits & HAK_RING_REGISTERED) {
		give_back(ring);
	} else {
		ck_assert_int_eq(rings()->submit(ring, &one, 1, &taken), -EBADF);
		ck_assert_uint_eq(taken, 0);
	}
	ck_assert_int_eq(rings()->destroy(ring), 0);
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

START_TEST(a_ring_outlives_its_descriptor)
{
	lose_descriptor(NULL);
	lose_descriptor(open_a_file);
	lose_descriptor(open_an_event);
}
END_TEST

/* The kernel registers 16 rings of a thread; the next has to do without. */
START_TEST(a_ring_that_cannot_be_registered_notices_its_loss)
{
	struct hak_ring *ring[17];

	for (unsigned i = 0; i < 16; i++)
		ring[i] = make_ring();
	ring[16] = make_ring();
	if (!(rings()->traits(ring[16]) & HAK_RING_NO_DESCRIPTOR)) {
		int last = -1, fd = 3;
		struct hak_ring_request one = { dirty_pages(65536), 65536, MADV_DONTNEED, 0 };
		struct tally t = { 0 };
		unsigned taken;

		ck_assert(!(rings()->traits(ring[16]) & HAK_RING_REGISTERED));
		give_back(ring[16]);
		while ((fd = find_ring_descriptor(fd)) >= 0)
			last = fd++;
		ck_assert_int_eq(close(last), 0);
		ck_assert_int_eq(rings()->submit(ring[16], &one, 1, &taken), -EBADF);
		ck_assert_uint_eq(taken, 0);
		ck_assert_int_eq(rings()->wait(ring[16], 1, FOREVER, tally, &t), 0);
		ck_assert_int_eq(((unsigned char *)one.addr)[0], 0xa5);
	}
	for (unsigned i = 0; i < 17; i++)
		ck_assert_int_eq(rings()->destroy(ring[i]), 0);
}
END_TEST

START_TEST(the_parents_ring_is_forgotten_by_a_child)
{
	struct hak_ring *ring = make_ring();
	int status;
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		rings()->forget(ring);
		_exit(find_ring_descriptor(3) < 0 ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", status);
	give_back(ring);
	ck_assert_int_eq(rings()->destroy(ring), 0);
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
START_TEST(what_the_kernel_refused_is_forgotten)
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
	ck_assert_int_eq(rings()->submit(ring, batch, 3, &taken), -EPERM);
	ck_assert_uint_eq(taken, 0);
	ck_assert_uint_eq(rings()->in_flight(ring), 0);
	ck_assert_int_eq(rings()->submit(ring, batch + 3, 1, &taken), 0);
	ck_assert_uint_eq(taken, 1);
	ck_assert_int_eq(rings()->wait(ring, 1, FOREVER, tally, &t), 0);
	ck_assert_uint_eq(t.seen, 1u << 3);
	for (size_t at = 0; at < 3 * piece; at += 4096)
		EXPECT(p[at] == 0xa5, "a refused range was given back");
	ck_assert_int_eq(p[3 * piece], 0);
	/* The whole queue must still be usable, round and round. */
	for (int round = 0; round < 10; round++)
		give_back(ring);
	ck_assert_int_eq(rings()->destroy(ring), 0);
}
END_TEST

/* As in a container: the profile answers io_uring_setup with EPERM. */
START_TEST(a_ring_that_is_denied_says_so)
{
	struct hak_ring *ring = NULL;

	ck_assert_int_eq(deny_io_uring(UINT32_MAX), 0);
	ck_assert_int_eq(rings()->create(8, &ring), -EPERM);
	ck_assert_ptr_null(ring);
}
END_TEST

/* Create must give a code that means "do not ask again". */
START_TEST(a_ring_that_is_not_there_says_so)
{
	struct hak_ring *ring = NULL;
	int error = rings() ? rings()->create(8, &ring) : -ENOSYS;

	ck_assert(error == -ENOSYS || error == -EPERM || error == -EOPNOTSUPP);
	ck_assert_ptr_null(ring);
}
END_TEST

static const char *no_ring(void)
{
	struct hak_ring *ring = NULL;
	int error;

	if (!rings())
		return "built without liburing";
	error = rings()->create(8, &ring);
	if (error)
		return strerror(-error);
	rings()->destroy(ring);
	return NULL;
}

SUITE("ring", 30,
      UNLESS(no_ring, exactly_the_asked_pages_go_back),
      UNLESS(no_ring, a_ring_takes_as_many_as_it_has_entries),
      UNLESS(no_ring, a_batch_is_refused_whole),
      UNLESS(no_ring, madvises_own_errors_are_handed_on),
      UNLESS(no_ring, waiting_takes_no_longer_than_told),
      UNLESS(no_ring, a_ring_works_on_the_cpus_it_was_given),
      UNLESS(no_ring, a_ring_outlives_its_descriptor),
      UNLESS(no_ring, a_ring_that_cannot_be_registered_notices_its_loss),
      UNLESS(no_ring, the_parents_ring_is_forgotten_by_a_child),
      UNLESS(no_ring, what_the_kernel_refused_is_forgotten),
      UNLESS(no_ring, a_ring_that_is_denied_says_so),
      WHERE(no_ring, a_ring_that_is_not_there_says_so))
