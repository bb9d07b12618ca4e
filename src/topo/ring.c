/* SPDX-License-Identifier: MIT */
/*
 * An io_uring that carries madvise, and survives what programs do to descriptors they do not know.
 *
 * Three grades, tried in this order (the flags of each are a table below):
 *   no descriptor    the ring never had one (NO_MMAP with REGISTERED_FD_ONLY): nothing to close
 *   registered       it has one, but the kernel also knows it by an index of the creating thread,
 *                    so submitting and waiting go on after the program closed it
 *   plain            every call checks that the descriptor is still this ring
 * A descriptor whose number now belongs to another file is never used and never closed.
 */
#include "draft.h"

#if HAVE_LIBURING

#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* liburing has had the call since 2.5, the kernel the flags since 6.5. */
#if defined(IORING_SETUP_NO_MMAP) && defined(IORING_SETUP_REGISTERED_FD_ONLY) && \
	defined(IO_URING_VERSION_MAJOR) && defined(IO_URING_VERSION_MINOR)
#define CAN_NO_DESCRIPTOR \
	(IO_URING_VERSION_MAJOR > 2 || (IO_URING_VERSION_MAJOR == 2 && IO_URING_VERSION_MINOR >= 5))
#else
#define CAN_NO_DESCRIPTOR 0
#endif

#define TIMED_WAIT_FEATURE IORING_FEAT_EXT_ARG
#define LOST_POLL_NS 1000000
/* Of 64 entries: one or two pages of requests, one of completions and the rings' words. */
#define OWN_PAGES 4
#define NS_PER_S 1000000000ull

struct hak_ring {
	struct io_uring ring;
	unsigned entries;
	unsigned in_flight;
	unsigned traits;
	void *own; /* memory of a ring without descriptor, or NULL */
	size_t own_bytes;
	int fd; /* -1: has none */
	dev_t device; /* with inode: which file fd was at creation */
	ino_t inode;
};

static const struct {
	unsigned flags;
	unsigned traits;
} grades[] = {
#if CAN_NO_DESCRIPTOR
	{ IORING_SETUP_NO_MMAP | IORING_SETUP_REGISTERED_FD_ONLY | IORING_SETUP_SINGLE_ISSUER |
		  IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
	  HAK_RING_NO_DESCRIPTOR | HAK_RING_REGISTERED | HAK_RING_SINGLE_ISSUER |
		  HAK_RING_DEFERRED },
#endif
	/* Linux 6.1 */
	{ IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
	  HAK_RING_SINGLE_ISSUER | HAK_RING_DEFERRED },
	/* Linux 5.19: the completion does not interrupt the thread's own work */
	{ IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL, 0 },
	{ 0, 0 },
};

/* ---- whose descriptor is it? ---- */

static bool is_io_uring(int fd)
{
	char path[40], target[32];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/thread-self/fd/%d", fd);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return true; /* no /proc: fstat alone decides */
	target[length] = '\0';
	return strcmp(target, "anon_inode:[io_uring]") == 0;
}

/*
 * Newer kernels give each ring an inode of its own. Older ones share one among all files of the
 * kind, eventfds and epolls too: there the name tells rings from those, and another ring of the
 * program's own with the same number remains unrecognised.
 */
static bool is_ours(const struct hak_ring *ring)
{
	struct stat st;

	return ring->fd >= 0 && fstat(ring->fd, &st) == 0 && st.st_dev == ring->device &&
	       st.st_ino == ring->inode && is_io_uring(ring->fd);
}

static bool can_enter(const struct hak_ring *ring)
{
	return (ring->traits & HAK_RING_REGISTERED) || is_ours(ring);
}

static bool can_register(const struct hak_ring *ring)
{
	return (ring->traits & HAK_RING_NO_DESCRIPTOR) || is_ours(ring);
}

/* ---- life ---- */

/*
 * A ring without descriptor cannot be mapped, so it is built in memory that it is given. Left to
 * itself liburing takes a page of hugetlbfs for it, which few machines have.
 */
#if CAN_NO_DESCRIPTOR
static int open_in_own_memory(struct hak_ring *ring, unsigned entries,
			      struct io_uring_params *params)
{
	int used;

	ring->own_bytes = OWN_PAGES * (size_t)sysconf(_SC_PAGESIZE);
	ring->own = mmap(NULL, ring->own_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	if (ring->own == MAP_FAILED) {
		ring->own = NULL;
		return -ENOMEM;
	}
	/* A child would get copies of pages that the kernel writes to. */
	(void)madvise(ring->own, ring->own_bytes, MADV_DONTFORK);
	used = io_uring_queue_init_mem(entries, &ring->ring, params, ring->own, ring->own_bytes);
	if (used >= 0)
		return 0;
	munmap(ring->own, ring->own_bytes);
	ring->own = NULL;
	return used;
}
#else
static int open_in_own_memory(struct hak_ring *ring, unsigned entries,
			      struct io_uring_params *params)
{
	(void)ring, (void)entries, (void)params;
	return -EINVAL;
}
#endif

static int open_ring(struct hak_ring *ring, unsigned entries)
{
	int error = -EINVAL;

	for (size_t i = 0; i < sizeof(grades) / sizeof(grades[0]); i++) {
		struct io_uring_params params;

		memset(&params, 0, sizeof(params));
		params.flags = grades[i].flags;
		if (grades[i].traits & HAK_RING_NO_DESCRIPTOR)
			error = open_in_own_memory(ring, entries, &params);
		else
			error = io_uring_queue_init_params(entries, &ring->ring, &params);
		if (error == 0) {
			ring->traits = grades[i].traits;
			return 0;
		}
		/* Denied as a whole: no other flags will help, and some profiles kill. */
		if (error == -EPERM || error == -EACCES || error == -ENOSYS)
			return error;
	}
	return error;
}

static bool has_madvise(struct hak_ring *ring)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(&ring->ring);
	bool has = probe && io_uring_opcode_supported(probe, IORING_OP_MADVISE);

	io_uring_free_probe(probe);
	return has;
}

/* Without the descriptor when it is somebody else's by now. */
static void close_ring(struct hak_ring *ring)
{
	if (!(ring->traits & HAK_RING_NO_DESCRIPTOR) && !is_ours(ring))
		ring->ring.ring_fd = -1;
	io_uring_queue_exit(&ring->ring);
	if (ring->own)
		munmap(ring->own, ring->own_bytes);
}

static int ring_create(unsigned entries, struct hak_ring **out)
{
	struct hak_ring *ring;
	struct stat st;
	int error;

	if (entries == 0 || entries > HAK_RING_ENTRIES_MAX)
		return -EINVAL;
	ring = calloc(1, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	ring->fd = -1;
	ring->entries = entries;
	error = open_ring(ring, entries);
	if (error)
		goto fail;
	if (!(ring->traits & HAK_RING_NO_DESCRIPTOR)) {
		ring->fd = ring->ring.ring_fd;
		if (fstat(ring->fd, &st)) {
			error = -errno;
			io_uring_queue_exit(&ring->ring);
			goto fail;
		}
		ring->device = st.st_dev;
		ring->inode = st.st_ino;
	}
	if (!(ring->ring.features & TIMED_WAIT_FEATURE) || !has_madvise(ring)) {
		close_ring(ring);
		error = -EOPNOTSUPP;
		goto fail;
	}
	if (ring->fd >= 0 && io_uring_register_ring_fd(&ring->ring) == 1)
		ring->traits |= HAK_RING_REGISTERED;
	/* A child of fork has no business with these pages; if refused, it just does not look. */
	(void)io_uring_ring_dontfork(&ring->ring);
	*out = ring;
	return 0;
fail:
	free(ring);
	return error;
}

static int ring_destroy(struct hak_ring *ring)
{
	if (ring->in_flight)
		return -EBUSY;
	close_ring(ring);
	free(ring);
	return 0;
}

/*
 * The child's copy of the descriptor would keep the parent's ring alive. Its mappings are not
 * there (dontfork), and the registered index is the parent thread's, so nothing else is undone.
 */
static void ring_forget(struct hak_ring *ring)
{
	if (is_ours(ring))
		close(ring->fd);
	free(ring);
}

/* ---- work ---- */

/* What the kernel did not take must not be submitted later, when the range is no longer ours. */
static void withdraw(struct hak_ring *ring)
{
	struct io_uring_sq *sq = &ring->ring.sq;
	unsigned head = __atomic_load_n(sq->khead, __ATOMIC_ACQUIRE);

	/* No thread of the kernel's reads the queue, only our own calls do: a plain rewind. */
	sq->sqe_head = sq->sqe_tail = head;
	__atomic_store_n(sq->ktail, head, __ATOMIC_RELEASE);
}

static int ring_submit(struct hak_ring *ring, const struct hak_ring_request *batch, unsigned count,
		       unsigned *taken)
{
	int error = 0;

	*taken = 0;
	for (unsigned i = 0; i < count; i++)
		if (batch[i].bytes == 0 || batch[i].bytes > UINT32_MAX)
			return -EINVAL;
	if (count > ring->entries - ring->in_flight)
		return -EAGAIN;
	if (!can_enter(ring))
		return -EBADF;
	for (unsigned i = 0; i < count; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);

		/* Cannot be: entries in flight have left this queue. */
		if (!sqe)
			break;
		io_uring_prep_madvise(sqe, batch[i].addr, (uint32_t)batch[i].bytes, batch[i].advice);
		sqe->user_data = batch[i].token;
	}
	while (*taken < count) {
		int got = io_uring_submit(&ring->ring);

		if (got == -EINTR)
			continue;
		if (got <= 0) {
			error = got ? got : -EIO;
			break;
		}
		*taken += (unsigned)got;
	}
	if (*taken < count)
		withdraw(ring);
	ring->in_flight += *taken;
	return error;
}

static unsigned reap(struct hak_ring *ring, hak_ring_done *done, void *arg)
{
	struct io_uring_cqe *cqe;
	unsigned head, seen = 0;

	io_uring_for_each_cqe(&ring->ring, head, cqe)
	{
		done(arg, cqe->user_data, cqe->res);
		seen++;
	}
	io_uring_cq_advance(&ring->ring, seen);
	ring->in_flight -= seen;
	return seen;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* One sleep until `want` completions are there, or some, or left_ns have passed. */
static int sleep_for(struct hak_ring *ring, unsigned want, uint64_t left_ns)
{
	struct __kernel_timespec ts = { .tv_sec = (int64_t)(left_ns / NS_PER_S),
					.tv_nsec = (long long)(left_ns % NS_PER_S) };
	struct io_uring_cqe *cqe;

	if (!can_enter(ring)) {
		/* The kernel still completes what it took, into memory that is still mapped. */
		struct timespec nap = { .tv_nsec = LOST_POLL_NS };

		nanosleep(&nap, NULL);
		return 0;
	}
	return io_uring_wait_cqes(&ring->ring, &cqe, want, left_ns == UINT64_MAX ? NULL : &ts,
				  NULL);
}

static int ring_wait(struct hak_ring *ring, unsigned at_least, uint64_t timeout_ns,
		     hak_ring_done *done, void *arg)
{
	uint64_t left = timeout_ns, start = now_ns();
	unsigned seen = 0;

	if (at_least > ring->in_flight)
		at_least = ring->in_flight;
	if ((ring->traits & HAK_RING_DEFERRED) && ring->in_flight)
		(void)io_uring_get_events(&ring->ring);
	for (;;) {
		int error;

		seen += reap(ring, done, arg);
		if (seen >= at_least)
			return 0;
		if (left == 0)
			return -ETIME;
		error = sleep_for(ring, at_least - seen, left);
		if (error && error != -ETIME && error != -EINTR && error != -EAGAIN)
			return error;
		if (timeout_ns != UINT64_MAX) {
			uint64_t passed = now_ns() - start;

			left = passed < timeout_ns ? timeout_ns - passed : 0;
		}
	}
}

static int ring_bind_workers(struct hak_ring *ring, const unsigned char *cpus, size_t mask_bytes)
{
	if (!can_register(ring))
		return -EBADF;
	return io_uring_register_iowq_aff(&ring->ring, mask_bytes, (const cpu_set_t *)(const void *)cpus);
}

/* madvise is work that ends, of which the kernel keeps the first of its two counts. */
static int ring_limit_workers(struct hak_ring *ring, unsigned workers)
{
	unsigned counts[2] = { workers, 0 };

	if (workers == 0)
		return -EINVAL;
	if (!can_register(ring))
		return -EBADF;
	return io_uring_register_iowq_max_workers(&ring->ring, counts);
}

static unsigned ring_traits(const struct hak_ring *ring)
{
	return ring->traits;
}

static unsigned ring_in_flight(const struct hak_ring *ring)
{
	return ring->in_flight;
}

const struct hak_ring_ops hak_topo_ring = {
	.create = ring_create,
	.traits = ring_traits,
	.in_flight = ring_in_flight,
	.submit = ring_submit,
	.wait = ring_wait,
	.bind_workers = ring_bind_workers,
	.limit_workers = ring_limit_workers,
	.destroy = ring_destroy,
	.forget = ring_forget,
};

#endif
