/* SPDX-License-Identifier: MIT */
/*
 * What the table's own entries say when the kernel refuses. test_faults puts its refusals before them;
 * here each call is made, and a filter gives the errors that this kernel would not. It holds for the
 * thread that asks for it, so each test has one: gcov and sanitizers go on in the main thread.
 */
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "suite.h"

#define PIDFD_SELF ((uint32_t)-10000) /* of Linux 6.14 */

#define IN_A_THREAD(name)                                                                          \
	static void name##_body(void);                                                             \
	static void *name##_run(void *unused)                                                      \
	{                                                                                          \
		(void)unused;                                                                      \
		name##_body();                                                                     \
		return NULL;                                                                       \
	}                                                                                          \
	START_TEST(name)                                                                           \
	{                                                                                          \
		suite_threads(1, name##_run);                                                      \
	}                                                                                          \
	END_TEST                                                                                   \
	static void name##_body(void)

/* From now on the call is refused with the error: every one, or where its first argument is `arg`. */
static void refuse(uint32_t call, int error, const uint32_t *arg)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | (arg ? BPF_JEQ : BPF_JGE) | BPF_K, arg ? *arg : 0, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
	ck_assert(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ck_assert(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static ssize_t advise(void)
{
	static _Alignas(HAK_PAGE) char page[HAK_PAGE];
	struct iovec range = { page, sizeof page };
	errno = 0;
	return hak_sys.madvise_vector(&range, 1, MADV_COLD);
}

/* As before Linux 6.14: a number is no process, a descriptor is. */
IN_A_THREAD(a_vector_goes_by_descriptor_where_the_number_is_none)
{
	int open = suite_descriptors("pidfd");
	ssize_t by_number = advise();
	refuse(SYS_process_madvise, EBADF, &(uint32_t){ PIDFD_SELF });
	ck_assert_int_eq(advise(), by_number);
	ck_assert_int_eq(suite_descriptors("pidfd"), open);
	refuse(SYS_pidfd_open, EMFILE, NULL);
	ck_assert_int_eq(advise(), -1);
	ck_assert_int_eq(errno, EMFILE);
}

IN_A_THREAD(a_vector_that_is_refused_says_why)
{
	refuse(SYS_process_madvise, EPERM, NULL);
	ck_assert_int_eq(advise(), -1);
	ck_assert_int_eq(errno, EPERM);
	refuse(SYS_process_madvise, EBADF, NULL);
	ck_assert_int_eq(advise(), -1);
	ck_assert_int_eq(errno, EBADF);
}

START_TEST(what_is_asked_of_nodes_reaches_the_kernel)
{
	unsigned cpu = ~0u, node = ~0u;
	void *page = hak_sys_map(HAK_PAGE);
	ck_assert(!hak_sys.getcpu(&cpu, &node));
	ck_assert(cpu != ~0u && node != ~0u);
	ck_assert(page);
	/* a filter, or a kernel without NUMA, refuses them with another error */
	errno = 0;
	long bound = hak_sys.mbind(page, HAK_PAGE, MPOL_DEFAULT, NULL, 0, 0);
	ck_assert(bound == 0 || (bound == -1 && (errno == ENOSYS || errno == EPERM)));
	if (bound == 0) {
		ck_assert_int_eq(hak_sys.mbind(page, HAK_PAGE, 4711, NULL, 0, 0), -1);
		ck_assert_int_eq(errno, EINVAL);
	}
	/* the range has no policy */
	ck_assert_int_eq(hak_sys.home_node(page, HAK_PAGE, 100000), -1);
	ck_assert(errno == EINVAL || errno == ENOSYS || errno == EPERM);
}
END_TEST

static bool count_lines(const char *line, void *arg)
{
	(*(unsigned *)arg)++;
	return strcmp(line, "stop") == 0;
}

START_TEST(lines_that_do_not_fit_are_dropped_and_files_that_are_not_there_say_so)
{
	static const char text[] = "one\na line of more than sixteen bytes\n\ntwo\nstop\nnot seen\n";
	char buf[16], path[] = "/tmp/hakmem-sys.XXXXXX";
	unsigned lines = 0;
	int fd = mkstemp(path);
	ck_assert(fd >= 0 && hak_sys_write(fd, text, sizeof text - 1) == sizeof text - 1);
	ck_assert_int_eq(hak_sys_each_line_in(buf, sizeof buf, path, count_lines, &lines), 1);
	/* of the long line its end is left */
	ck_assert_int_eq(lines, 5);
	lines = 0;
	ck_assert(!ftruncate(fd, 4));
	ck_assert_int_eq(hak_sys_each_line(path, count_lines, &lines), 0);
	ck_assert_int_eq(lines, 1);
	char at[4] = { 0 };
	ck_assert_int_eq(hak_sys.read_at(fd, 1, at, sizeof at), 3);
	ck_assert_mem_eq(at, "ne\n", 4);
	hak_sys_close(fd);
	unlink(path);

	ck_assert_int_eq(hak_sys_each_line(path, count_lines, &lines), -1);
	ck_assert_int_eq(hak_sys.read_file(path, buf, sizeof buf), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_int_eq(hak_sys.read_at(-1, 0, buf, sizeof buf), -1);
	ck_assert_int_eq(errno, EBADF);
	/* a folder is opened, and cannot be read */
	ck_assert_int_eq(hak_sys_each_line("/", count_lines, &lines), 0);
	ck_assert_int_eq(hak_sys.read_file("/", buf, sizeof buf), 0);
}
END_TEST

static void *stand_apart(void *unused)
{
	struct stat ours, programs;
	(void)unused;
	if (fstat(STDERR_FILENO, &programs))
		return "no standard error";
	hak_sys_stand_apart();
	if (!hak_sys_stands_apart())
		return NULL; /* a sanitizer's build, or a kernel before 5.11 */
	if (!fstat(STDERR_FILENO, &ours))
		return "the program's descriptors are this thread's";
	int fd = hak_sys_stderr();
	/* a filter, or a kernel before 5.6, may refuse it */
	if (fd < 0)
		return NULL;
	if (fstat(fd, &ours) || ours.st_ino != programs.st_ino)
		return "another file than standard error";
	hak_sys_stderr_done(fd);
	if (!fstat(fd, &ours))
		return "the descriptor is left open";
	refuse(SYS_pidfd_getfd, EPERM, NULL);
	if (hak_sys_stderr() >= 0)
		return "a descriptor that was refused";
	refuse(SYS_pidfd_open, EMFILE, NULL);
	if (hak_sys_stderr() >= 0)
		return "a process that was refused";
	hak_sys_stderr_done(-1);
	return NULL;
}

START_TEST(a_thread_apart_borrows_the_programs_stderr)
{
	suite_threads(1, stand_apart);
	ck_assert_int_eq(hak_sys_stderr(), STDERR_FILENO);
	hak_sys_stderr_done(STDERR_FILENO);
	ck_assert(fcntl(STDERR_FILENO, F_GETFD) >= 0);
	hak_sys_apart_forked();
	ck_assert(!hak_sys_stands_apart());
}
END_TEST

IN_A_THREAD(random_numbers_that_are_refused_are_none)
{
	uint64_t a = 0, b = 0;
	ck_assert(hak_sys.random(&a, sizeof a) && hak_sys.random(&b, sizeof b));
	ck_assert(a != b);
	refuse(SYS_getrandom, ENOSYS, NULL);
	ck_assert(!hak_sys.random(&a, sizeof a));
}

IN_A_THREAD(filters_are_counted_and_names_may_be_refused)
{
	uint32_t before = hak_sys_seccomp();
	void *page = hak_sys_map(HAK_PAGE);
	ck_assert(page);
	refuse(SYS_getrandom, ENOSYS, NULL);
	/* kernels before 5.9 say only that there are some */
	uint32_t after = hak_sys_seccomp();
	ck_assert(after == before + 1 || after == 1);
	if (!before) {
		ck_assert(!hak_sys_filtered());
		ck_assert(!hak_sys_may_try(after)); /* it came late */
	}
	hak_sys_seccomp_start();
	ck_assert(hak_sys_filtered());
	ck_assert(hak_sys_may_try(after));
	ck_assert(!hak_sys_may_try(HAK_SECCOMP_UNKNOWN));
	hak_sys_name(page, HAK_PAGE, "test");
	refuse(SYS_openat, EACCES, NULL);
	ck_assert_int_eq(hak_sys_seccomp(), HAK_SECCOMP_UNKNOWN);
	refuse(SYS_prctl, EINVAL, NULL);
	hak_sys_name(page, HAK_PAGE, "test");
	hak_sys_name(page, HAK_PAGE, "test");
	hak_sys_seccomp_start(); /* the kernel says that it knows no filters */
	ck_assert(!hak_sys_filtered());
}

static void *never(void *arg)
{
	return arg;
}

IN_A_THREAD(a_thread_that_cannot_be_started_is_an_error_number)
{
	sigset_t before, after;
	/* the kernel's part of it is smaller */
	sigemptyset(&before);
	sigemptyset(&after);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	ck_assert_int_eq(hak_sys.thread_start(never, NULL), 0);
	refuse(SYS_clone3, EAGAIN, NULL);
	refuse(SYS_clone, EAGAIN, NULL);
	ck_assert_int_eq(hak_sys.thread_start(never, NULL), EAGAIN);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	ck_assert_mem_eq(&before, &after, sizeof before);
}

SUITE("sys", 30, CALM(a_vector_goes_by_descriptor_where_the_number_is_none), CALM(a_vector_that_is_refused_says_why),
      CALM(what_is_asked_of_nodes_reaches_the_kernel),
      CALM(lines_that_do_not_fit_are_dropped_and_files_that_are_not_there_say_so),
      CALM(a_thread_apart_borrows_the_programs_stderr), CALM(random_numbers_that_are_refused_are_none),
      CALM(filters_are_counted_and_names_may_be_refused), CALM(a_thread_that_cannot_be_started_is_an_error_number))
