/* SPDX-License-Identifier: MIT */
/*
 * Is the C library's own malloc ever entered? Built twice by preload.sh.
 *
 *   (nothing)        a library for LD_PRELOAD: its constructor writes a trap instruction over the
 *                    first byte of each allocating function in libc.so.6 itself. Interposition
 *                    cannot answer the question, since libc may call its malloc without the PLT;
 *                    a trap in the text is met by whoever comes, and by whatever way.
 *   -DWORK_PROGRAM   a program that makes the C library allocate in all the ways it knows.
 *
 * Whoever meets a trap ends with status 99 and one line that names the function.
 */
#include <dlfcn.h>
#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef WORK_PROGRAM

/* free as well: with no block of libc's there is nothing that could be freed there */
static const char *const names[] = {
	"malloc", "calloc", "realloc", "free", "memalign", "aligned_alloc",
	"posix_memalign", "valloc", "pvalloc", "reallocarray",
};
#define COUNT (sizeof(names) / sizeof(names[0]))
static uintptr_t places[COUNT];

#if defined(__x86_64__)
static const unsigned char trap[] = { 0xcc }; /* int3 */
#define TRAP_PC(uc) ((uintptr_t)(uc)->uc_mcontext.gregs[REG_RIP] - sizeof(trap))
#elif defined(__aarch64__)
static const unsigned char trap[] = { 0x00, 0x00, 0x20, 0xd4 }; /* brk #0 */
#define TRAP_PC(uc) ((uintptr_t)(uc)->uc_mcontext.pc)
#else
#error "no trap instruction known for this machine"
#endif

static void say(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		_exit(98);
}

static void met(int sig, siginfo_t *info, void *context)
{
	uintptr_t pc = TRAP_PC((ucontext_t *)context);

	(void)sig;
	(void)info;
	say("the C library's own allocator was entered:");
	for (size_t i = 0; i < COUNT; i++) {
		if (places[i] == pc) {
			say(" ");
			say(names[i]);
		}
	}
	say("\n");
	_exit(99);
}

/* Readable and executable throughout: mprotect and memcpy may share the page. */
static bool patch(uintptr_t at)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t low = at & ~(page - 1);
	uintptr_t high = (at + sizeof(trap) + page - 1) & ~(page - 1);

	if (mprotect((void *)low, high - low, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
		return false;
	memcpy((void *)at, trap, sizeof(trap));
	__builtin___clear_cache((char *)low, (char *)high);
	return mprotect((void *)low, high - low, PROT_READ | PROT_EXEC) == 0;
}

__attribute__((constructor)) static void lay_traps(void)
{
	struct sigaction action = { .sa_sigaction = met, .sa_flags = SA_SIGINFO | SA_NODEFER };
	void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
	Dl_info here;

	if (libc == NULL) {
		say("libc_trap: no libc.so.6 in this process\n");
		_exit(98);
	}
	/* looked up in libc's own handle, so the answer is libc's and not the preload's */
	for (size_t i = 0; i < COUNT; i++) {
		void *at = dlsym(libc, names[i]);

		if (at == NULL || dladdr(at, &here) == 0 || strstr(here.dli_fname, "libc.so") == NULL) {
			say("libc_trap: not found in libc: ");
			say(names[i]);
			say("\n");
			_exit(98);
		}
		places[i] = (uintptr_t)at;
	}
	sigaction(SIGTRAP, &action, NULL);
	for (size_t i = 0; i < COUNT; i++) {
		if (!patch(places[i])) {
			say("libc_trap: the kernel does not let text be written\n");
			_exit(77);
		}
	}
}

#else /* WORK_PROGRAM */

#include <dirent.h>
#include <glob.h>
#include <iconv.h>
#include <netdb.h>
#include <pwd.h>
#include <regex.h>
#include <search.h>
#include <spawn.h>
#include <sys/socket.h>
#include <wchar.h>

extern char **environ;

#define must(x) do { if (!(x)) { fprintf(stderr, "line %d: %s\n", __LINE__, #x); exit(1); } } while (0)

static int by_value(const void *a, const void *b)
{
	const int *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void keep(void *key)
{
	(void)key; /* the tree's keys are not from the heap */
}

/* Streams: buffers, lines of unknown length, text of unknown length, memory as a file. */
static void streams(void)
{
	char *line = NULL, *text = NULL;
	size_t size = 0;
	FILE *f = fopen("/proc/self/maps", "r");

	must(f != NULL);
	while (getline(&line, &size, f) > 0)
		continue;
	fclose(f);
	free(line);
	must(asprintf(&text, "%*d %s", 5000, 1, "end") == 5004);
	free(text);
	f = open_memstream(&text, &size);
	must(f != NULL);
	for (int i = 0; i < 20000; i++)
		must(fprintf(f, "%d,", i) > 0);
	must(fclose(f) == 0 && size > 100000);
	free(text);
}

/* Not after fork in a threaded process: glibc's popen has a lock that fork does not take. */
static void pipes(void)
{
	char *text = NULL;
	FILE *f = popen("echo from a child", "r");

	must(f != NULL);
	must(fscanf(f, "%ms", &text) == 1 && strcmp(text, "from") == 0);
	free(text);
	must(pclose(f) == 0);
}

/* What libc keeps for itself: locales, converters, patterns, name services, environment. */
static void tables(void)
{
	static const char *const locales[] = { "C.UTF-8", "C", "POSIX" };
	regex_t pattern;
	glob_t found;
	struct addrinfo *address = NULL, hints = { .ai_family = AF_INET, .ai_flags = AI_NUMERICHOST };
	iconv_t converter;
	wchar_t wide[64];
	char name[32];

	for (size_t i = 0; i < sizeof(locales) / sizeof(locales[0]); i++)
		setlocale(LC_ALL, locales[i]);
	must(mbstowcs(wide, "plain", 64) == 5);
	must(regcomp(&pattern, "^(a|b)*[[:alpha:]]+(c{2,9}|d)$", REG_EXTENDED) == 0);
	must(regexec(&pattern, "ababxcc", 0, NULL, 0) == 0);
	regfree(&pattern);
	must(glob("/etc/*", 0, NULL, &found) == 0);
	globfree(&found);
	must(getaddrinfo("127.0.0.1", "80", &hints, &address) == 0);
	freeaddrinfo(address);
	must(getpwuid(0) != NULL);
	converter = iconv_open("UTF-16", "UTF-8");
	must(converter != (iconv_t)-1);
	iconv_close(converter);
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "HAK_TRAP_%d", i);
		must(setenv(name, "a value that is long enough to be copied", 1) == 0);
	}
	tzset();
}

/* What is larger than libc's buffers on the stack: qsort, getcwd, trees, folders. */
static void containers(void)
{
	enum { N = 300000 };
	int *numbers = malloc(N * sizeof(*numbers));
	void *root = NULL;
	static int keys[1000];
	char *cwd = getcwd(NULL, 0);
	DIR *folder = opendir("/proc/self");

	must(numbers != NULL && cwd != NULL && folder != NULL);
	for (int i = 0; i < N; i++)
		numbers[i] = (int)((unsigned)i * 2654435761u >> 1);
	qsort(numbers, N, sizeof(*numbers), by_value);
	for (int i = 1; i < N; i++)
		must(numbers[i - 1] <= numbers[i]);
	free(numbers);
	for (int i = 0; i < 1000; i++) {
		keys[i] = i;
		must(tsearch(&keys[i], &root, by_value) != NULL);
	}
	tdestroy(root, keep);
	while (readdir(folder) != NULL)
		continue;
	closedir(folder);
	free(cwd);
}

/* Every way of the family itself, small to huge. */
static void family(void)
{
	volatile size_t half = SIZE_MAX / 2; /* the compiler would warn of the overflow */

	for (size_t n = 1; n <= (size_t)96 << 20; n = n * 3 + 1) {
		void *a = malloc(n), *b = calloc(n, 1), *c = aligned_alloc(64, (n + 63) & ~(size_t)63), *d = NULL;

		must(a != NULL && b != NULL && c != NULL && posix_memalign(&d, 4096, n) == 0);
		a = realloc(a, n * 2);
		must(a != NULL);
		free(a);
		free(b);
		free(c);
		free(d);
	}
	errno = 0;
	must(calloc(half, 3) == NULL && errno == ENOMEM);
	free(NULL);
}

static _Thread_local char thread_local_space[20000];

static void *thread(void *arg)
{
	void *blocks[64] = { NULL };

	thread_local_space[0] = 1;
	for (unsigned i = 0; i < 20000; i++) {
		free(blocks[i % 64]);
		blocks[i % 64] = malloc((size_t)1 << i % 18);
		must(blocks[i % 64] != NULL);
	}
	for (unsigned i = 0; i < 64; i++)
		free(blocks[i]);
	streams();
	pipes();
	return arg;
}

static void processes(void)
{
	char *const argv[] = { (char *)"true", NULL };
	pthread_t threads[8];
	pid_t pid;
	int status;

	for (int i = 0; i < 8; i++)
		must(pthread_create(&threads[i], NULL, thread, NULL) == 0);
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		family();
		streams();
		exit(0);
	}
	must(waitpid(pid, &status, 0) == pid && status == 0);
	for (int i = 0; i < 8; i++)
		must(pthread_join(threads[i], NULL) == 0);
	must(posix_spawnp(&pid, "true", NULL, NULL, argv, environ) == 0);
	must(waitpid(pid, &status, 0) == pid && status == 0);
	must(system("exit 0") == 0);
}

int main(void)
{
	void *math;

	family();
	streams();
	tables();
	containers();
	processes();
	math = dlopen("libm.so.6", RTLD_NOW);
	must(math != NULL && dlsym(math, "cos") != NULL);
	must(dlopen("no-such-library.so", RTLD_NOW) == NULL && dlerror() != NULL);
	dlclose(math);
	puts("done");
	return 0;
}

#endif
