/* SPDX-License-Identifier: MIT */
/*
 * Do blocks of the C library and of hakmem find their way home when one frees what the
 * other allocated? Built three times by foreign.sh:
 *
 *   (nothing)         the program; one subcommand a case
 *   -DHELPER_LIBRARY  a library that allocates and frees; opened with RTLD_DEEPBIND
 *   -DEARLY_LIBRARY   a preload whose constructor allocates before or after hakmem's,
 *                     and whose functions are chosen by an IFUNC resolver
 *   -DWRAPPER_LIBRARY a preload that wraps malloc, as tracers do
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT 2000
#define MIB ((size_t)1 << 20)

#if defined(HELPER_LIBRARY)

void *helper_malloc(size_t n);
void *helper_realloc(void *p, size_t n);
void helper_free(void *p);
char *helper_strdup(const char *s);
const char *helper_allocator(void);

void *helper_malloc(size_t n)
{
	return malloc(n);
}

void *helper_realloc(void *p, size_t n)
{
	return realloc(p, n);
}

void helper_free(void *p)
{
	free(p);
}

char *helper_strdup(const char *s)
{
	return strdup(s);
}

const char *helper_allocator(void)
{
	Dl_info info;
	void *(*f)(size_t) = malloc;
	return dladdr((void *)f, &info) ? info.dli_fname : "";
}

#elif defined(WRAPPER_LIBRARY)

static void *(*next_malloc)(size_t);
static void (*next_free)(void *);
static _Atomic long wrapped;

void *malloc(size_t n)
{
	if (!next_malloc)
		next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
	atomic_fetch_add(&wrapped, 1);
	return next_malloc(n);
}

void free(void *p)
{
	if (!next_free)
		next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
	next_free(p);
}

long wrapper_calls(void);
long wrapper_calls(void)
{
	return atomic_load(&wrapped);
}

#elif defined(EARLY_LIBRARY)

void *early_blocks[COUNT];

static void fill(void)
{
	for (size_t i = 0; i < COUNT; i++) {
		size_t n = 1 + i * 37;
		if (!(early_blocks[i] = malloc(n)))
			abort();
		memset(early_blocks[i], (int)(i % 251), n);
	}
	for (size_t i = 0; i < COUNT; i += 3) {
		free(early_blocks[i]);
		if (!(early_blocks[i] = calloc(1, 1 + i * 37)))
			abort();
		memset(early_blocks[i], (int)(i % 251), 1 + i * 37);
	}
}

/* The resolver runs while the library is relocated: it may choose, no more. */
static volatile int resolved; /* keeps the compiler from taking the call for a pure one */

static void (*choose(void))(void)
{
	resolved = 1;
	return fill;
}
void fill_chosen(void) __attribute__((noipa, ifunc("choose")));

__attribute__((constructor(101))) static void early(void)
{
	fill_chosen();
	if (!resolved || !early_blocks[0])
		abort();
}

/* After hakmem's destructor, or before it. */
__attribute__((destructor)) static void late(void)
{
	for (size_t i = 1; i < COUNT; i += 2)
		free(early_blocks[i]);
	free(malloc(100000));
}

#else

#define CHECK(cond)                                                                                 \
	do {                                                                                        \
		if (!(cond)) {                                                                      \
			fprintf(stderr, "foreign: line %d: %s\n", __LINE__, #cond);                 \
			_exit(1);                                                                   \
		}                                                                                   \
	} while (0)

static const char *library; /* hakmem, where it is not preloaded */

struct allocator {
	void *(*malloc)(size_t);
	void *(*realloc)(void *, size_t);
	void (*free)(void *);
	size_t (*usable)(void *);
};

static const struct allocator program = { malloc, realloc, free, malloc_usable_size };

static bool is_filled(const unsigned char *p, size_t n, int c)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != c)
			return false;
	return true;
}

static size_t size_of(size_t i)
{
	static const size_t large[] = { 140000, 300000, MIB, 3 * MIB, 70 * MIB };
	return i % 100 == 99 ? large[i / 100 % 5] : 1 + i * 131 % 60000;
}

struct hand {
	const struct allocator *from, *to;
};

static void *exchange(void *arg)
{
	const struct hand *h = arg;
	for (size_t i = 0; i < COUNT; i++) {
		size_t n = size_of(i), look = n < 100000 ? n : 100000;
		unsigned char *p = h->from->malloc(n);
		CHECK(p);
		memset(p, 7, look);
		if (i % 4 == 1) {
			size_t usable = h->to->usable(p);
			CHECK(usable >= n);
		}
		if (i % 4 >= 2) {
			size_t m = i % 4 == 2 ? 2 * n + 1 : n / 3 + 1;
			p = h->to->realloc(p, m);
			CHECK(p && is_filled(p, look < m ? look : m, 7));
			h->to->free(p);
		} else {
			errno = 4711;
			h->to->free(p);
			CHECK(errno == 4711);
		}
	}
	return NULL;
}

static void exchange_in_threads(const struct allocator *from, const struct allocator *to)
{
	struct hand h = { from, to };
	pthread_t t[3];
	exchange(&h);
	for (int i = 0; i < 3; i++) /* the C library's other arenas are mappings */
		CHECK(pthread_create(&t[i], NULL, exchange, &h) == 0);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
}

static struct allocator open_hakmem(int mode, void **handle)
{
	struct allocator a;
	*handle = dlopen(library, mode);
	if (!*handle)
		fprintf(stderr, "%s\n", dlerror());
	CHECK(*handle);
	a.malloc = (void *(*)(size_t))dlsym(*handle, "malloc");
	a.realloc = (void *(*)(void *, size_t))dlsym(*handle, "realloc");
	a.free = (void (*)(void *))dlsym(*handle, "free");
	a.usable = (size_t(*)(void *))dlsym(*handle, "malloc_usable_size");
	CHECK(a.malloc && a.malloc != malloc && a.realloc && a.free && a.free != free && a.usable);
	return a;
}

static void *keeps_block(void *arg)
{
	void *(*alloc)(size_t) = *(void *(**)(size_t))arg;
	return alloc(1000);
}

/* hakmem arrives late: blocks older than it are freed with it. */
static int dlopen_case(int mode)
{
	void *old[COUNT], *handle, *kept;
	pthread_t t;
	for (size_t i = 0; i < COUNT; i++) {
		CHECK(old[i] = malloc(size_of(i)));
		memset(old[i], 9, 1);
	}
	struct allocator hak = open_hakmem(mode, &handle);
	for (size_t i = 0; i < COUNT; i++)
		hak.free(old[i]);
	exchange_in_threads(&program, &hak);
	exchange_in_threads(&hak, &hak);
	/* unloading must take no code from under the threads' ends and their blocks */
	unsigned char *p = hak.malloc(500);
	memset(p, 3, 500);
	CHECK(pthread_create(&t, NULL, keeps_block, &hak.malloc) == 0);
	dlclose(handle);
	pthread_join(t, &kept);
	CHECK(is_filled(p, 500, 3));
	hak = open_hakmem(mode, &handle);
	hak.free(p);
	hak.free(kept);
	return 0;
}

static int case_dlopen_local(void)
{
	return dlopen_case(RTLD_NOW | RTLD_LOCAL);
}

static int case_dlopen_global(void)
{
	return dlopen_case(RTLD_LAZY | RTLD_GLOBAL);
}

static int case_dlopen_deepbind(void)
{
	return dlopen_case(RTLD_NOW | RTLD_DEEPBIND);
}

static struct allocator open_helper(int mode, const char **allocator, char *(**dup)(const char *))
{
	struct allocator a;
	void *h = dlopen(getenv("HELPER"), mode);
	if (!h)
		fprintf(stderr, "%s\n", dlerror());
	CHECK(h);
	a.malloc = (void *(*)(size_t))dlsym(h, "helper_malloc");
	a.realloc = (void *(*)(void *, size_t))dlsym(h, "helper_realloc");
	a.free = (void (*)(void *))dlsym(h, "helper_free");
	a.usable = malloc_usable_size;
	*dup = (char *(*)(const char *))dlsym(h, "helper_strdup");
	*allocator = ((const char *(*)(void))dlsym(h, "helper_allocator"))();
	return a;
}

/* As it is by default: both ways must work. */
static int case_deepbind_both(void)
{
	const char *name;
	char *(*dup)(const char *);
	struct allocator helper = open_helper(RTLD_NOW | RTLD_DEEPBIND, &name, &dup);
	exchange_in_threads(&helper, &program);
	exchange_in_threads(&program, &helper);
	for (int i = 0; i < 1000; i++)
		helper.free(strdup("a block of the C library's caller"));
	return 0;
}

/* The flag honoured: the library's blocks are the C library's, freed by us. */
static int case_deepbind_foreign(void)
{
	const char *name;
	char *(*dup)(const char *);
	struct allocator helper = open_helper(RTLD_NOW | RTLD_DEEPBIND, &name, &dup);
	if (!strstr(name, "libc.so")) {
		fprintf(stderr, "RTLD_DEEPBIND bound malloc to %s\n", name);
		return 1;
	}
	exchange_in_threads(&helper, &program);
	for (int i = 0; i < 1000; i++)
		free(dup("through the C library to us and back"));
	return 0;
}

static int case_early(void)
{
	void **early_blocks = dlsym(RTLD_DEFAULT, "early_blocks");
	CHECK(early_blocks);
	for (size_t i = 0; i < COUNT; i++)
		CHECK(is_filled(early_blocks[i], 1 + i * 37, (int)(i % 251)));
	for (size_t i = 0; i < COUNT; i += 2)
		free(early_blocks[i]);
	return 0;
}

static int case_wrapper(void)
{
	long (*wrapper_calls)(void) = (long (*)(void))dlsym(RTLD_DEFAULT, "wrapper_calls");
	free(strdup("one call at least"));
	CHECK(wrapper_calls && wrapper_calls() > 0);
	exchange_in_threads(&program, &program);
	return 0;
}

static int all_entries(const struct dirent *d)
{
	(void)d;
	return 1;
}

/* Blocks that the C library allocates for its caller to free. */
static void *libc_blocks(void *arg)
{
	char *line = NULL, *text = NULL, *path;
	size_t cap = 0;
	struct dirent **names;
	struct addrinfo *info, hints = { .ai_socktype = SOCK_STREAM };
	FILE *f = fopen("/proc/self/maps", "r");
	CHECK(f);
	while (getline(&line, &cap, f) > 0)
		;
	CHECK(malloc_usable_size(line) >= cap);
	line = realloc(line, 100000);
	free(line);
	fclose(f);
	CHECK(asprintf(&text, "%0*d", 30000, 5) == 30000);
	free(text);
	CHECK((path = realpath("/proc/self/../self/exe", NULL)) != NULL);
	CHECK((path = realloc(path, 5000)) != NULL);
	free(path);
	CHECK((path = getcwd(NULL, 0)) != NULL);
	free(path);
	CHECK((path = strndup("abcdef", 3)) && !strcmp(path, "abc"));
	free(path);
	int n = scandir("/etc", &names, all_entries, alphasort);
	CHECK(n >= 0);
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	if (getaddrinfo("127.0.0.1", "80", &hints, &info) == 0)
		freeaddrinfo(info);
	if (getaddrinfo("localhost", NULL, &hints, &info) == 0)
		freeaddrinfo(info);
	FILE *m = open_memstream(&text, &cap);
	CHECK(m);
	for (int i = 0; i < 20000; i++)
		fprintf(m, "%d ", i);
	fclose(m);
	CHECK(strlen(text) == cap);
	free(text);
	return arg;
}

static int case_libc_blocks(void)
{
	pthread_t t[3];
	for (int i = 0; i < 3; i++)
		CHECK(pthread_create(&t[i], NULL, libc_blocks, NULL) == 0);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < 20; i++)
		libc_blocks(NULL);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(void);
} cases[] = {
	{ "dlopen-local", case_dlopen_local },
	{ "dlopen-global", case_dlopen_global },
	{ "dlopen-deepbind", case_dlopen_deepbind },
	{ "deepbind-both", case_deepbind_both },
	{ "deepbind-foreign", case_deepbind_foreign },
	{ "early", case_early },
	{ "wrapper", case_wrapper },
	{ "libc-blocks", case_libc_blocks },
};

int main(int argc, char **argv)
{
	alarm(30);
	library = argc > 2 ? argv[2] : NULL;
	for (size_t i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
		if (!strcmp(argv[1], cases[i].name))
			return cases[i].run();
	return 2;
}

#endif
