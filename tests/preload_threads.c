/* SPDX-License-Identifier: MIT */
/*
 * Does malloc hold in what threads and processes do to it? One subcommand a case; run
 * under the preload by preload_threads.sh. Exit status 0: all blocks were as left.
 *
 * With -DATFORK_LIBRARY this file is a library whose constructor runs before hakmem's
 * and registers handlers for fork that allocate.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void allocate_some(size_t most)
{
	enum { N = 300 };
	void *p[N];
	for (size_t i = 0; i < N; i++) {
		size_t n = 1 + (i * 7919) % most;
		p[i] = malloc(n);
		if (!p[i])
			abort();
		memset(p[i], (int)i, n);
	}
	for (size_t i = 0; i < N; i++)
		free(p[i]);
}

#ifdef ATFORK_LIBRARY

static void handler(void)
{
	allocate_some(60000);
}

__attribute__((constructor)) static void start(void)
{
	pthread_atfork(handler, handler, handler);
}

#else

extern char **environ;

#define MIB ((size_t)1 << 20)
#define WORKERS 3
#define SLOTS 64
#define CHILD_SECONDS 60 /* a hang, not a slow machine */

#define CHECK(cond)                                                                                 \
	do {                                                                                        \
		if (!(cond)) {                                                                      \
			fprintf(stderr, "preload_threads: line %d: %s\n", __LINE__, #cond);         \
			_exit(1);                                                                   \
		}                                                                                   \
	} while (0)

/* A block that knows its size and is filled to a rule. */
struct block {
	size_t n;
	unsigned char bytes[];
};

static struct block *make(size_t n)
{
	struct block *b = malloc(sizeof *b + n);
	CHECK(b);
	b->n = n;
	size_t edge = n < 256 ? n : 256;
	memset(b->bytes, (int)(n % 251), edge);
	memset(b->bytes + n - edge, (int)(n % 251), edge);
	return b;
}

static void drop(struct block *b)
{
	if (!b)
		return;
	size_t n = b->n, edge = n < 256 ? n : 256;
	for (size_t i = 0; i < edge; i++)
		CHECK(b->bytes[i] == n % 251 && b->bytes[n - 1 - i] == n % 251);
	free(b);
}

static uint32_t next_random(uint32_t *s)
{
	*s = *s * 1664525u + 1013904223u;
	return *s >> 8;
}

static size_t pick(uint32_t *s)
{
	uint32_t r = next_random(s) % 1000, x = next_random(s);
	if (r < 700)
		return 1 + x % 2000;
	if (r < 930)
		return 2000 + x % 60000;
	if (r < 990)
		return 60000 + x % 700000;
	if (r < 999)
		return MIB + x % (3 * MIB);
	return 65 * MIB;
}

/* Whoever exchanges a slot owns what was in it; a fork's child finds whole blocks. */
static struct block *_Atomic slots[SLOTS];
static _Atomic bool stop;
static _Atomic uint64_t rounds;

static void *busy(void *arg)
{
	uint32_t seed = (uint32_t)(uintptr_t)arg * 2654435761u + 1;
	while (!atomic_load(&stop)) {
		struct block *b = next_random(&seed) % 4 ? make(pick(&seed)) : NULL;
		drop(atomic_exchange(&slots[next_random(&seed) % SLOTS], b));
		atomic_fetch_add(&rounds, 1);
	}
	return NULL;
}

static pthread_t workers[WORKERS];

static void workers_start(void)
{
	atomic_store(&stop, false);
	for (uintptr_t i = 0; i < WORKERS; i++)
		CHECK(pthread_create(&workers[i], NULL, busy, (void *)(i + 1)) == 0);
	while (atomic_load(&rounds) < 500)
		usleep(1000);
}

static void workers_stop(void)
{
	atomic_store(&stop, true);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(workers[i], NULL);
	for (int i = 0; i < SLOTS; i++)
		drop(atomic_exchange(&slots[i], NULL));
}

static void reap(pid_t pid)
{
	int status = 0;
	while (waitpid(pid, &status, 0) < 0)
		CHECK(errno == EINTR);
	if (WIFSIGNALED(status))
		fprintf(stderr, "preload_threads: a child: %s\n",
			WTERMSIG(status) == SIGALRM ? "hang" : strsignal(WTERMSIG(status)));
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* What a child does: allocate, free the parent's blocks, allocate again. */
static void child_work(uint32_t seed)
{
	struct block *mine[50];
	alarm(CHILD_SECONDS);
	for (int i = 0; i < 50; i++)
		mine[i] = make(pick(&seed));
	for (int i = 0; i < SLOTS; i++)
		drop(atomic_exchange(&slots[i], NULL));
	for (int i = 0; i < 50; i++)
		drop(mine[i]);
	allocate_some(200000);
}

static void pause_randomly(uint32_t *seed)
{
	struct timespec ts = { 0, next_random(seed) % 300000 };
	nanosleep(&ts, NULL);
}

static void *child_thread(void *arg)
{
	allocate_some(100000);
	return arg;
}

static void forks(int count)
{
	uint32_t seed = 17;
	workers_start();
	for (int i = 0; i < count; i++) {
		pause_randomly(&seed);
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			child_work(seed);
			if (i % 8 == 0) { /* the child may have threads of its own */
				pthread_t t;
				CHECK(pthread_create(&t, NULL, child_thread, NULL) == 0);
				pthread_join(t, NULL);
			}
			if (i % 8 == 1) { /* and children */
				pid_t second = fork();
				CHECK(second >= 0);
				if (second == 0) {
					child_work(seed + 1);
					exit(0);
				}
				reap(second);
			}
			exit(0);
		}
		reap(pid);
	}
	workers_stop();
}

static int case_fork(void)
{
	forks(40);
	return 0;
}

/* No handlers run: locks may be held by threads that are gone. */
static int case_fork_raw(void)
{
	uint32_t seed = 5;
	workers_start();
	for (int i = 0; i < 60; i++) {
		pause_randomly(&seed);
		pid_t pid = _Fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			child_work(seed);
			_exit(0);
		}
		reap(pid);
	}
	workers_stop();
	return 0;
}

/* Only blocks of their own mapping and runs, so that the locks of both are taken all the time. */
static void *busy_huge(void *arg)
{
	size_t n = (uintptr_t)arg % 2 ? 64 * MIB : 2 * MIB;
	while (!atomic_load(&stop)) {
		void *p = malloc(n);
		CHECK(p);
		free(p);
	}
	return NULL;
}

/* The child's first call is one particular function, while others held its locks. */
static int case_fork_raw_first_call(void)
{
	uint32_t seed = 3;
	static void *own[600], *run[600];
	pthread_t t[WORKERS];
	enum { COUNT = 150 };
	for (uintptr_t i = 0; i < WORKERS; i++)
		CHECK(pthread_create(&t[i], NULL, busy_huge, (void *)i) == 0);
	for (int i = 0; i < COUNT; i++) {
		CHECK((own[i] = malloc(64 * MIB)) && (run[i] = malloc(2 * MIB)));
		pause_randomly(&seed);
		pid_t pid = _Fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			alarm(CHILD_SECONDS);
			switch (i % 5) {
			case 0:
				free(own[i]);
				break;
			case 1:
				free(run[i]);
				break;
			case 2:
				CHECK(realloc(own[i], 66 * MIB));
				break;
			case 3:
				CHECK(realloc(run[i], 4 * MIB));
				break;
			default:
				CHECK(malloc(3 * MIB));
			}
			allocate_some(100000);
			_exit(0);
		}
		reap(pid);
		free(own[i]);
		free(run[i]);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(t[i], NULL);
	return 0;
}

/* The child frees so much that a background thread would be due, while the parent's
 * threads are being made and ended: the C library's locks for that may be held. */
static void *churn_threads(void *arg)
{
	while (!atomic_load(&stop)) {
		pthread_t t;
		CHECK(pthread_create(&t, NULL, child_thread, arg) == 0);
		pthread_join(t, NULL);
	}
	return NULL;
}

static int case_fork_raw_much(void)
{
	uint32_t seed = 9;
	pthread_t t[2];
	for (int i = 0; i < 2; i++)
		CHECK(pthread_create(&t[i], NULL, churn_threads, NULL) == 0);
	for (int i = 0; i < 200; i++) {
		pause_randomly(&seed);
		pid_t pid = _Fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			static void *p[100];
			alarm(CHILD_SECONDS);
			for (int k = 0; k < 100; k++)
				CHECK(p[k] = malloc(900000));
			for (int k = 0; k < 100; k++)
				free(p[k]);
			_exit(0);
		}
		reap(pid);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	return 0;
}

static int case_vfork(void)
{
	workers_start();
	for (int i = 0; i < 60; i++) {
		pid_t pid = vfork();
		CHECK(pid >= 0);
		if (pid == 0) {
			execl("/bin/true", "true", (char *)NULL);
			_exit(127);
		}
		reap(pid);
		allocate_some(3000);
	}
	workers_stop();
	return 0;
}

static int case_spawn(void)
{
	char *args[] = { (char[]){ "true" }, NULL };
	workers_start();
	for (int i = 0; i < 60; i++) {
		posix_spawn_file_actions_t actions;
		pid_t pid;
		CHECK(posix_spawn_file_actions_init(&actions) == 0);
		CHECK(posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", 1, 0) == 0);
		CHECK(posix_spawn(&pid, "/bin/true", &actions, NULL, args, environ) == 0);
		posix_spawn_file_actions_destroy(&actions);
		reap(pid);
	}
	CHECK(system("exit 0") == 0);
	workers_stop();
	return 0;
}

static void *storm(void *arg)
{
	uint32_t seed = (uint32_t)(uintptr_t)arg;
	for (int i = 0; i < 5; i++) {
		pid_t pids[3];
		for (int k = 0; k < 3; k++) {
			pids[k] = fork();
			CHECK(pids[k] >= 0);
			if (pids[k] == 0) {
				child_work(seed + (uint32_t)k);
				exit(0);
			}
			drop(make(pick(&seed)));
		}
		for (int k = 0; k < 3; k++)
			reap(pids[k]);
	}
	return NULL;
}

/* Forks from several threads at once, of a program whose other threads allocate. */
static int case_fork_storm(void)
{
	pthread_t t[3];
	workers_start();
	for (uintptr_t i = 0; i < 3; i++)
		CHECK(pthread_create(&t[i], NULL, storm, (void *)(i + 1)) == 0);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	workers_stop();
	return 0;
}

/* Handlers registered before hakmem's run inside ours, and allocate. */
static int case_atfork(void)
{
	forks(15);
	return 0;
}

static void cleanup(void *arg)
{
	drop(arg);
}

static void *to_cancel(void *arg)
{
	uint32_t seed = (uint32_t)(uintptr_t)arg;
	bool async = (uintptr_t)arg % 2;
	for (;;) {
		struct block *b = make(pick(&seed) % 100000);
		pthread_cleanup_push(cleanup, b);
		atomic_fetch_add(&rounds, 1);
		if (async) { /* a place without calls: the only safe one */
			int old;
			pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
			for (volatile int i = 0; i < 2000; i++)
				;
			pthread_setcanceltype(old, &old);
		} else {
			usleep(10);
		}
		pthread_cleanup_pop(1);
	}
	return NULL;
}

static int case_cancel(void)
{
	workers_start();
	for (uintptr_t i = 1; i <= 150; i++) {
		pthread_t t;
		void *result;
		uint32_t seed = (uint32_t)i;
		CHECK(pthread_create(&t, NULL, to_cancel, (void *)i) == 0);
		pause_randomly(&seed);
		CHECK(pthread_cancel(t) == 0);
		CHECK(pthread_join(t, &result) == 0 && result == PTHREAD_CANCELED);
	}
	workers_stop();
	return 0;
}

/* atexit handlers and destructors allocate while the threads go on. */
static void at_exit(void)
{
	allocate_some(300000);
}

__attribute__((destructor)) static void last(void)
{
	allocate_some(300000);
}

static int case_exit_running(void)
{
	for (int i = 0; i < 25; i++) {
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			alarm(CHILD_SECONDS);
			atexit(at_exit);
			workers_start();
			exit(0);
		}
		reap(pid);
	}
	return 0;
}

static pthread_key_t keys[40];
static _Atomic int key_runs, local_runs;

/* Runs after hakmem's own destructor, up to four times over; blocks go from round to round. */
static void key_end(void *value)
{
	static _Thread_local int left = 60;
	struct block *b = value, *other = make(b->n * 3 % 100000);
	drop(b);
	atomic_fetch_add(&key_runs, 1);
	drop(atomic_exchange(&slots[(size_t)left % SLOTS], other));
	if (--left > 0)
		pthread_setspecific(keys[left % 40], make(1 + (size_t)left * 977));
}

extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
extern void *__dso_handle;

static void local_end(void *value)
{
	drop(value);
	allocate_some(4000);
	atomic_fetch_add(&local_runs, 1);
}

static void *with_keys(void *arg)
{
	/* half of the threads allocate for the first time in a destructor */
	for (int i = 0; i < 40; i += 3)
		pthread_setspecific(keys[i], make(100 + (size_t)i * 1000));
	__cxa_thread_atexit_impl(local_end, make(5000), &__dso_handle);
	__cxa_thread_atexit_impl(local_end, make(50), &__dso_handle);
	return arg;
}

static int case_destructors(void)
{
	for (int i = 0; i < 40; i++)
		CHECK(pthread_key_create(&keys[i], key_end) == 0);
	for (int i = 0; i < 200; i++) {
		pthread_t t[4];
		for (int k = 0; k < 4; k++)
			CHECK(pthread_create(&t[k], NULL, with_keys, NULL) == 0);
		for (int k = 0; k < 4; k++)
			pthread_join(t[k], NULL);
	}
	for (int i = 0; i < SLOTS; i++)
		drop(atomic_exchange(&slots[i], NULL));
	CHECK(atomic_load(&local_runs) == 1600 && atomic_load(&key_runs) > 800 * 14);
	return 0;
}

static void *short_life(void *arg)
{
	uint32_t seed = (uint32_t)(uintptr_t)arg;
	for (int i = 0; i < 20; i++)
		drop(atomic_exchange(&slots[next_random(&seed) % SLOTS], make(1 + next_random(&seed) % 3000)));
	return NULL;
}

static int case_threads_in_turn(void)
{
	for (uintptr_t i = 0; i < 100000; i++) {
		pthread_t t;
		CHECK(pthread_create(&t, NULL, short_life, (void *)i) == 0);
		pthread_join(t, NULL);
	}
	workers_stop();
	return 0;
}

static pthread_barrier_t all_there;

static void *waits(void *arg)
{
	struct block *b = make(1 + (uintptr_t)arg % 5000);
	short_life(arg);
	pthread_barrier_wait(&all_there);
	short_life(arg);
	drop(b);
	return NULL;
}

static int case_threads_at_once(void)
{
	enum { COUNT = 2000 };
	static pthread_t t[COUNT];
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 << 10);
	pthread_barrier_init(&all_there, NULL, COUNT);
	for (uintptr_t i = 0; i < COUNT; i++) {
		int err = pthread_create(&t[i], &attr, waits, (void *)i);
		if (err == EAGAIN) {
			fprintf(stderr, "no more than %zu threads allowed\n", (size_t)i);
			_exit(77);
		}
		CHECK(err == 0);
	}
	for (int i = 0; i < COUNT; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < SLOTS; i++)
		drop(atomic_exchange(&slots[i], NULL));
	return 0;
}

static _Atomic uint64_t signals;

static void on_signal(int sig)
{
	(void)sig;
	int err = errno;
	errno = EILSEQ;
	atomic_fetch_add(&signals, 1);
	errno = err;
}

static int case_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct itimerval timer = { { 0, 150 }, { 0, 150 } };
	uint32_t seed = 77;
	CHECK(sigaction(SIGPROF, &action, NULL) == 0); /* without SA_RESTART */
	CHECK(setitimer(ITIMER_PROF, &timer, NULL) == 0);
	workers_start();
	while (atomic_load(&signals) < 300) {
		errno = 0;
		drop(make(pick(&seed)));
		CHECK(errno == 0);
	}
	workers_stop();
	timer = (struct itimerval){ { 0, 0 }, { 0, 0 } };
	setitimer(ITIMER_PROF, &timer, NULL);
	return 0;
}

static pthread_barrier_t step;

static void *idle_thread(void *arg)
{
	pthread_barrier_wait(&step);
	return arg;
}

static void *frees_all(void *arg)
{
	void **blocks = arg;
	for (size_t i = 0; blocks[i]; i++)
		free(blocks[i]);
	return NULL;
}

/*
 * The C library frees a joined thread's tables while it holds the lock of its cache of
 * stacks, which pthread_create takes as well. So that free must not be the one that starts
 * a background thread. Here all before it makes one due without starting it; children
 * differ in how full the magazine is when the joins come.
 */
static int case_join(void)
{
	for (int k = 0; k < 40; k++) {
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			enum { THREADS = 24, BLOCKS = 3000, FILL = 300 + 8 * 40 };
			static void *blocks[BLOCKS + 1], *more[400], *fill[FILL];
			pthread_t t[THREADS], other;
			alarm(CHILD_SECONDS);
			pthread_barrier_init(&step, NULL, THREADS + 1);
			for (int i = 0; i < THREADS; i++)
				CHECK(pthread_create(&t[i], NULL, idle_thread, NULL) == 0);
			for (size_t n = 272; n <= 304; n += 32) { /* a thread's table has one of these */
				for (int i = 0; i < FILL; i++)
					CHECK(fill[i] = malloc(n));
				for (int i = 0; i < 300 + 8 * k; i++)
					free(fill[i]);
			}
			for (int i = 0; i < BLOCKS; i++)
				CHECK(blocks[i] = malloc(4000));
			CHECK(pthread_create(&other, NULL, frees_all, blocks) == 0);
			pthread_join(other, NULL);
			/* collects what the other thread freed: slabs become EMPTY */
			for (int i = 0; i < 400; i++)
				CHECK(more[i] = malloc(4000));
			pthread_barrier_wait(&step);
			for (int i = 0; i < THREADS; i++)
				pthread_join(t[i], NULL);
			_exit(0);
		}
		reap(pid);
	}
	return 0;
}

static const struct {
	const char *name;
	int (*run)(void);
} cases[] = {
	{ "fork", case_fork },
	{ "fork-raw", case_fork_raw },
	{ "fork-raw-first-call", case_fork_raw_first_call },
	{ "fork-raw-much", case_fork_raw_much },
	{ "fork-storm", case_fork_storm },
	{ "atfork", case_atfork },
	{ "vfork", case_vfork },
	{ "spawn", case_spawn },
	{ "cancel", case_cancel },
	{ "exit-running", case_exit_running },
	{ "destructors", case_destructors },
	{ "threads-in-turn", case_threads_in_turn },
	{ "threads-at-once", case_threads_at_once },
	{ "signals", case_signals },
	{ "join", case_join },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		if (argc < 2)
			puts(cases[i].name);
		else if (!strcmp(argv[1], cases[i].name))
			return cases[i].run();
	}
	return argc < 2 ? 0 : 2;
}

#endif
