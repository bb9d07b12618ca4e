/* SPDX-License-Identifier: MIT */
/*
 * guarded CRIME [HANDLER [BYTES]]: a crime against a guarded block, which is had by asking for
 * blocks until one comes; exits with 3 where nothing happens. `mixed` is a long run without any.
 * HANDLER says what the program does about SIGSEGV: `none`, `handler`, `jump`, `again` (raises
 * it again with the handler there was before, as Python's faulthandler does) or `ignore`; BYTES
 * gives it a signal stack.
 */
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ATTEMPTS 1000000
#define PAGE ((uintptr_t)4096)
#define THREADS 4
#define KEPT 64
#define OPERATIONS 1500

static volatile unsigned char sink;
static sigjmp_buf back;
static struct sigaction before;

/* ---- crimes ---------------------------------------------------------------------- */

__attribute__((noinline)) static unsigned char *made(size_t bytes)
{
	unsigned char *p = malloc(bytes);
	memset(p, 1, bytes);
	return p;
}

__attribute__((noinline)) static void freed(void *p)
{
	free(p);
}

__attribute__((noinline)) static void touched(volatile unsigned char *at)
{
	sink = *at;
}

/* At the start of a slot, or at its end; of an odd size no block is usable but a guarded one. */
static unsigned char *guarded(size_t bytes, bool at_start)
{
	for (int i = 0; i < ATTEMPTS; i++) {
		unsigned char *p = made(bytes);
		if (malloc_usable_size(p) == bytes && ((uintptr_t)p % PAGE == 0) == at_start)
			return p;
		freed(p);
	}
	puts("no block is guarded");
	exit(3);
}

static unsigned char *page_of(unsigned char *p)
{
	return p - (uintptr_t)p % PAGE;
}

static void overflow_at_end(void)
{
	unsigned char *p = guarded(111, false);
	touched(page_of(p) + PAGE);
}

static void overflow_at_start(void)
{
	unsigned char *volatile p = guarded(111, true);
	p[PAGE] = 7;
}

static void overflow_by_one_at_end(void)
{
	unsigned char *volatile p = guarded(99, false);
	p[99] = 7;
	freed(p);
}

static void overflow_by_one_at_start(void)
{
	unsigned char *volatile p = guarded(99, true);
	p[99] = 7;
	freed(p);
}

static void overflow_before_realloc(void)
{
	unsigned char *volatile p = guarded(99, false);
	p[99] = 7;
	sink = realloc(p, 200) != NULL;
}

static void underflow_at_start(void)
{
	touched(guarded(101, true) - 1);
}

static void underflow_at_end(void)
{
	touched(page_of(guarded(101, false)) - 1);
}

static void underflow_by_one(void)
{
	unsigned char *volatile p = guarded(101, false);
	p[-1] = 7;
	freed(p);
}

static void read_after_free(void)
{
	unsigned char *p = guarded(1001, true);
	freed(p);
	touched(p + 8);
}

static void write_after_free(void)
{
	unsigned char *volatile p = guarded(1001, false);
	freed(p);
	p[8] = 7;
}

static void *freed_by_thread(void *p)
{
	freed(p);
	return NULL;
}

static void read_after_free_by_thread(void)
{
	unsigned char *p = guarded(16383, true);
	pthread_t t;
	if (pthread_create(&t, NULL, freed_by_thread, p))
		exit(1);
	pthread_join(t, NULL);
	touched(p + 16000);
}

static void read_after_realloc(void)
{
	unsigned char *p = guarded(201, false);
	sink = realloc(p, 3000) != NULL;
	touched(p);
}

static void double_free(void)
{
	unsigned char *p = guarded(101, true);
	freed(p);
	freed(p);
}

static void free_inside(void)
{
	freed(guarded(101, false) + 16);
}

static void realloc_after_free(void)
{
	unsigned char *p = guarded(101, false);
	freed(p);
	sink = realloc(p, 200) != NULL;
}

/* ---- no crime -------------------------------------------------------------------- */

static void expect(bool ok, const char *what)
{
	if (!ok) {
		printf("%s\n", what);
		_exit(1);
	}
}

static unsigned char *any(uint64_t r)
{
	static const size_t most[] = { 16, 200, 5000, 20000 };
	size_t n = (r >> 8) % most[r & 3], align = (size_t)16 << (r >> 32) % 10;
	void *p = NULL;
	switch (r >> 2 & 3) {
	case 0:
		p = malloc(n);
		break;
	case 1:
		p = calloc(1, n);
		for (size_t i = 0; i < n; i++)
			expect(((unsigned char *)p)[i] == 0, "calloc is not zero");
		break;
	case 2:
		expect(posix_memalign(&p, align, n) == 0 && (uintptr_t)p % align == 0, "a block is not aligned");
		break;
	default:
		p = malloc(n / 2);
		memset(p, (int)(n & 255), n / 2);
		p = realloc(p, n + 1);
		for (size_t i = 0; i < n / 2; i++)
			expect(((unsigned char *)p)[i] == (n & 255), "realloc has lost bytes");
		break;
	}
	expect(p && (uintptr_t)p % 16 == 0 && malloc_usable_size(p) >= n, "a block is too small");
	memset(p, 7, malloc_usable_size(p));
	return p;
}

static unsigned char *_Atomic kept[THREADS * KEPT];

static void *mix(void *arg)
{
	uint64_t r = (uintptr_t)arg * 7919 + 1;
	for (int i = 0; i < OPERATIONS; i++) {
		r = r * 6364136223846793005u + 1442695040888963407u;
		unsigned char *p = atomic_exchange(&kept[(r >> 40) % (THREADS * KEPT)], any(r >> 20));
		for (size_t k = 0, n = p ? malloc_usable_size(p) : 0; k < n; k++)
			expect(p[k] == 7, "a block is another's");
		free(p);
	}
	return NULL;
}

static void run_threads(uintptr_t first)
{
	pthread_t t[THREADS];
	for (uintptr_t i = 0; i < THREADS; i++)
		expect(pthread_create(&t[i], NULL, mix, (void *)(first + i)) == 0, "no thread");
	/* children of a process whose threads are at it */
	for (int i = 0; i < 4; i++) {
		pid_t child = fork();
		if (child == 0) {
			mix((void *)(first + 100));
			_exit(0);
		}
		int status;
		expect(child > 0 && waitpid(child, &status, 0) == child && status == 0, "a child has failed");
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
}

static void mixed(void)
{
	run_threads(1);
	run_threads(50); /* the first ones have ended */
	_exit(0);
}

/* A fault that has nothing to do with us. */
static void wild_read(void)
{
	freed(guarded(101, true));
	touched((unsigned char *)8);
}

static void raised(void)
{
	freed(guarded(101, true));
	raise(SIGSEGV);
}

static const struct {
	const char *name;
	void (*commit)(void);
} crimes[] = {
	{ "overflow_at_end", overflow_at_end },
	{ "overflow_at_start", overflow_at_start },
	{ "overflow_by_one_at_end", overflow_by_one_at_end },
	{ "overflow_by_one_at_start", overflow_by_one_at_start },
	{ "overflow_before_realloc", overflow_before_realloc },
	{ "underflow_at_start", underflow_at_start },
	{ "underflow_at_end", underflow_at_end },
	{ "underflow_by_one", underflow_by_one },
	{ "read_after_free", read_after_free },
	{ "write_after_free", write_after_free },
	{ "read_after_free_by_thread", read_after_free_by_thread },
	{ "read_after_realloc", read_after_realloc },
	{ "double_free", double_free },
	{ "free_inside", free_inside },
	{ "realloc_after_free", realloc_after_free },
	{ "mixed", mixed },
	{ "wild_read", wild_read },
	{ "raised", raised },
};

/* ---- the program's handlers ------------------------------------------------------ */

static void say(const char *text)
{
	if (write(STDOUT_FILENO, text, strlen(text)) < 0)
		_exit(1);
}

static void handler(int number)
{
	(void)number;
	say("handled\n");
	_exit(4);
}

static void jump(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	siglongjmp(back, info->si_signo);
}

static void again(int number)
{
	say("handled\n");
	sigaction(SIGSEGV, &before, NULL);
	raise(number);
}

static void set_handler(const char *how)
{
	struct sigaction a = { .sa_handler = handler };
	if (!strcmp(how, "jump")) {
		a.sa_sigaction = jump;
		a.sa_flags = SA_SIGINFO;
	} else if (!strcmp(how, "again")) {
		a.sa_handler = again;
		a.sa_flags = SA_NODEFER;
	} else if (!strcmp(how, "ignore")) {
		a.sa_handler = SIG_IGN;
	}
	sigaction(SIGSEGV, &a, &before);
}

int main(int argc, char **argv)
{
	static char stack[65536];
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
	static volatile int jumps;
	if (argc > 2 && strcmp(argv[2], "none") != 0)
		set_handler(argv[2]);
	if (argc > 3) {
		alternate.ss_size = (size_t)atol(argv[3]);
		sigaltstack(&alternate, NULL);
	}
	if (sigsetjmp(back, 1) && ++jumps == 3) {
		printf("%d jumps\n", jumps);
		return 4;
	}
	for (size_t i = 0; argc > 1 && i < sizeof crimes / sizeof *crimes; i++)
		if (!strcmp(argv[1], crimes[i].name))
			crimes[i].commit();
	return 3;
}
