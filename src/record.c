/* SPDX-License-Identifier: MIT */
/*
 * HAKMEM_STATS, HAKMEM_STATS_SIGNAL, HAKMEM_PROFILE and HAKMEM_GUARDED. Files are opened for each
 * write and closed after it: a daemon that closes all descriptors must not find its own file under
 * our number.
 */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "die.h"
#include "options.h"
#include "stats.h"
#include "sys/sys.h"

#define INTERVAL_LEAST_MS 10u
#define INTERVAL_MOST_MS 86400000u
#define PAGES_SHARE 50u /* of the time, one part in this many goes into counting pages */

enum what { NOTHING, TABLE, JSON, JSON_LINES };

/* immutable after the constructor */
static enum what what;
static char path[HAK_RECORD_PATH], profile[HAK_RECORD_PATH]; /* absolute; "": none */
static uint64_t interval_ms;  /* JSON_LINES */
static int signal_number;     /* 0: none */

_Atomic uint32_t hak_record_due;
static _Atomic uint32_t asked; /* futex: signals so far */

/* ---- options --------------------------------------------------------------------- */

bool hak_record_path(char to[HAK_RECORD_PATH], const char *s, size_t bytes)
{
	size_t have = 0;
	if (bytes == 0)
		return false;
	if (*s != '/') {
		long n = syscall(SYS_getcwd, to, HAK_RECORD_PATH);
		if (n <= 1)
			return false;
		have = (size_t)n - 1;
		if (to[have - 1] != '/')
			to[have++] = '/';
	}
	if (have + bytes >= HAK_RECORD_PATH) {
		to[0] = 0;
		return false;
	}
	memcpy(to + have, s, bytes);
	to[have + bytes] = 0;
	return true;
}

static uint64_t milliseconds(const char *s)
{
	uint64_t v = 0;
	if (!*s)
		return 0;
	for (; *s >= '0' && *s <= '9' && v <= INTERVAL_MOST_MS; s++)
		v = v * 10 + (uint64_t)(*s - '0');
	return *s || v < INTERVAL_LEAST_MS || v > INTERVAL_MOST_MS ? 0 : v;
}

static bool understand(const char *how)
{
	path[0] = 0;
	if (!strcmp(how, "0"))
		return true;
	if (!strcmp(how, "1")) {
		what = TABLE;
		return true;
	}
	if (!strncmp(how, "json:", 5)) {
		what = JSON;
		return hak_record_path(path, how + 5, strlen(how + 5));
	}
	const char *colon = strrchr(how, ':');
	if (!strncmp(how, "jsonl:", 6) && colon > how + 5) {
		what = JSON_LINES;
		interval_ms = milliseconds(colon + 1);
		return interval_ms && hak_record_path(path, how + 6, (size_t)(colon - (how + 6)));
	}
	return false;
}

static void set_profile(const char *file)
{
	profile[0] = 0;
	if (!file)
		return;
	if (!hak_profile_text)
		hak_warn("HAKMEM_PROFILE needs libhakmem-profile.so in place of libhakmem.so, ignored", file);
	else if (!hak_record_path(profile, file, strlen(file)))
		hak_warn("HAKMEM_PROFILE is no path, ignored", file);
}

static void set_guarded(long slots)
{
	if (slots && hak_guarded_start)
		hak_guarded_start(slots);
	else if (slots)
		hak_warn("HAKMEM_GUARDED needs libhakmem-profile.so in place of libhakmem.so, ignored", NULL);
}

static void on_signal(int number)
{
	int err = errno;
	(void)number;
	/* relaxed: the futex wakes whoever waits for this word */
	atomic_fetch_add_explicit(&asked, 1, memory_order_relaxed);
	syscall(SYS_futex, &asked, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	errno = err;
}

static void set_signal(int number)
{
	struct sigaction now, ours = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	char text[16];
	struct hak_text t = { text, 0, sizeof text - 1 };
	if (!number)
		return;
	hak_text_u64(&t, (uint64_t)number);
	text[t.len] = 0;
	/* a handler that is there already, or SIG_IGN from the parent, was there first */
	if (sigaction(number, NULL, &now) || now.sa_handler != SIG_DFL || sigaction(number, &ours, NULL)) {
		hak_warn("HAKMEM_STATS_SIGNAL is not to be had, ignored", text);
		return;
	}
	signal_number = number;
}

void hak_record_start(void)
{
	const char *how = hak_option_strings[HAK_STR_stats];
	what = NOTHING;
	if (how && !understand(how)) {
		hak_warn("HAKMEM_STATS is 1, json:PATH or jsonl:PATH:MILLISECONDS (10 or more), ignored", how);
		what = NOTHING;
	}
	set_profile(hak_option_strings[HAK_STR_profile]);
	set_guarded(hak_option_get(HAK_OPT_guarded));
	set_signal((int)hak_option_get(HAK_OPT_stats_signal));
	atomic_store_explicit(&hak_record_due, what == JSON_LINES || signal_number, memory_order_relaxed);
}

/* ---- writing --------------------------------------------------------------------- */

/* The path with %p replaced by the process id, of the process that writes. */
static void expand(const char *from, char *out, size_t cap)
{
	struct hak_text t = { out, 0, cap - 1 };
	for (const char *s = from; *s; s++) {
		char c[2] = { *s, 0 };
		if (s[0] == '%' && s[1] == 'p') {
			hak_text_u64(&t, (uint64_t)getpid());
			s++;
		} else {
			hak_text_str(&t, c);
		}
	}
	out[t.len] = 0;
}

int hak_record_open(const char *pattern, int flags)
{
	char name[HAK_RECORD_PATH + 24];
	expand(pattern, name, sizeof name);
	int fd = hak_sys_open(name, O_WRONLY | O_CREAT | flags, 0644);
	if (fd < 0)
		hak_warn("cannot write", name);
	return fd;
}

static void write_to_file(int flags, bool pages)
{
	int fd = hak_record_open(path, flags);
	if (fd < 0)
		return;
	hak_stats_json(hak_stats_to_fd, &fd, pages);
	hak_sys_close(fd);
}

static void write_profile(void)
{
	int fd = profile[0] ? hak_record_open(profile, O_TRUNC) : -1;
	if (fd < 0)
		return;
	hak_profile_text(hak_stats_to_fd, &fd);
	hak_sys_close(fd);
}

static void write_table(void)
{
	int fd = STDERR_FILENO;
	hak_stats_table(hak_stats_to_fd, &fd);
}

void hak_record_exit(void)
{
	if (what == TABLE)
		write_table();
	else if (what == JSON)
		write_to_file(O_TRUNC, true);
	else if (what == JSON_LINES)
		write_to_file(O_APPEND, true);
	write_profile();
}

/* ---- the thread ------------------------------------------------------------------ */

/* The kernel walks the page tables to count pages, and holds up the program's mmap while it
 * does: on a large heap of small pages not every line has them. */
static void write_line(void)
{
	static uint64_t pages_due; /* this thread's; in fork's child its successor's */
	uint64_t begin = hak_now_ns();
	bool pages = begin >= pages_due;
	write_to_file(O_APPEND, pages);
	if (pages)
		pages_due = begin + (hak_now_ns() - begin) * PAGES_SHARE;
}

static void write_asked(void)
{
	if (what == JSON)
		write_to_file(O_TRUNC, true);
	else if (what == JSON_LINES)
		write_to_file(O_APPEND, true);
	else if (!profile[0])
		write_table();
	write_profile();
}

static void *recorder(void *arg)
{
	/* relaxed: a signal that came before the thread is answered by its first look */
	uint32_t seen = 0;
	uint64_t due = hak_now_ns();
	(void)arg;
	pthread_setname_np(pthread_self(), "hakmem-stats");
	for (;;) {
		uint64_t now = hak_now_ns();
		if (what == JSON_LINES && now >= due) {
			write_line();
			/* lines that could not be written in time are left out, not made up for */
			while (due <= now)
				due += interval_ms * 1000000u;
		}
		uint32_t word = atomic_load_explicit(&asked, memory_order_relaxed);
		if (word != seen) {
			seen = word;
			write_asked();
			continue;
		}
		now = hak_now_ns();
		uint64_t rest = due > now ? due - now : 0;
		struct timespec ts = { (time_t)(rest / HAK_NS_PER_S), (long)(rest % HAK_NS_PER_S) };
		if (what != JSON_LINES || rest)
			syscall(SYS_futex, &asked, FUTEX_WAIT_PRIVATE, seen, what == JSON_LINES ? &ts : NULL, NULL, 0);
	}
	return NULL;
}

void hak_record_thread(void)
{
	uint32_t due = 1;
	if (atomic_compare_exchange_strong_explicit(&hak_record_due, &due, 0, memory_order_relaxed,
						    memory_order_relaxed) &&
	    hak_sys.thread_start(recorder, NULL))
		hak_warn("no thread for statistics over time", NULL);
}

void hak_record_forked(bool again)
{
	/* relaxed: the child has one thread */
	atomic_store_explicit(&asked, 0, memory_order_relaxed);
	atomic_store_explicit(&hak_record_due, again && (what == JSON_LINES || signal_number), memory_order_relaxed);
}
