/* SPDX-License-Identifier: MIT */
/*
 * crimes_table NAME: commits one crime against whatever malloc the process has, then works on
 * for a while, as a program would. Run by crimes_table.sh.
 *
 *   exit status 0   nothing was noticed
 *   SIGABRT         reported
 *   other signals   the program crashed
 *
 *   crimes_table    lists the names
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SMALL ((size_t)100)
#define LARGE ((size_t)3 << 20)

static char in_bss[4096] __attribute__((aligned(16)));
static void *kept[1000];

static void *launder(const void *p)
{
	void *q = (void *)(uintptr_t)p;
	__asm__("" : "+r"(q));
	return q;
}

static char *get(size_t bytes)
{
	char *p = launder(malloc(bytes));
	if (!p)
		_exit(3);
	memset(p, 1, bytes);
	return p;
}

/* What the program has of the size, and goes on with. */
static void work(size_t bytes)
{
	size_t n = bytes > SMALL ? 8 : sizeof kept / sizeof *kept;
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < n; i++)
			kept[i] = get(bytes);
		for (size_t i = 0; i < n; i++)
			free(kept[i]);
	}
}

static void twice_at_once(size_t bytes)
{
	char *p = get(bytes);
	free(p);
	free(launder(p));
	work(bytes);
}
static void twice_later(size_t bytes)
{
	char *p = get(bytes), *q = get(bytes);
	free(p);
	free(q);
	free(launder(p));
	work(bytes);
}
static void *free_it(void *p)
{
	free(p);
	return NULL;
}
static void twice_by_two_threads(void)
{
	char *p = get(SMALL);
	pthread_t t;
	free(p);
	if (pthread_create(&t, NULL, free_it, launder(p)) || pthread_join(t, NULL))
		_exit(3);
	work(SMALL);
}
static void double_free_small_at_once(void) { twice_at_once(SMALL); }
static void double_free_small_later(void) { twice_later(SMALL); }
static void double_free_large(void) { twice_later(LARGE); }
static void free_stack(void)
{
	char buf[64] __attribute__((aligned(16))) = { 0 };
	free(launder(buf + 16));
	work(SMALL);
}
static void free_static(void)
{
	free(launder(in_bss + 1024));
	work(SMALL);
}
static void free_wild(void)
{
	free(launder((void *)0x123456789ab0));
	work(SMALL);
}
static void free_interior(void)
{
	free(launder(get(SMALL) + 32));
	work(SMALL);
}
static void free_unaligned(void)
{
	free(launder(get(SMALL) + 1));
	work(SMALL);
}
static void free_interior_large(void)
{
	free(launder(get(LARGE) + 4096));
	work(SMALL);
}
static void use_after_free_write(void)
{
	char *p = get(SMALL);
	free(p);
	((char *)launder(p))[40] = 7;
	work(SMALL);
}
static void use_after_free_read(void)
{
	char *p = get(SMALL);
	free(p);
	volatile char c = ((char *)launder(p))[40];
	(void)c;
	work(SMALL);
}
static void use_after_free_write_large(void)
{
	char *p = get(LARGE);
	free(p);
	((char *)launder(p))[40] = 7;
	work(LARGE);
}
static void overflow(size_t bytes, size_t by)
{
	char *p = get(bytes);
	memset(launder(p + bytes), 'x', by);
	free(p);
	work(bytes);
}
static void overflow_small_by_one(void) { overflow(SMALL, 1); }
static void overflow_small_by_64(void) { overflow(SMALL, 64); }
static void overflow_large_by_one(void) { overflow(LARGE, 1); }
static void overflow_large_by_128k(void) { overflow(LARGE, (size_t)128 << 10); }
static void underflow(size_t bytes)
{
	char *before = get(bytes), *p = get(bytes), *after = get(bytes);
	memset(launder(p - 16), 'x', 16);
	free(before);
	free(p);
	free(after);
	work(bytes);
}
static void underflow_small(void) { underflow(SMALL); }
static void underflow_large(void) { underflow(LARGE); }
/* malloc'ed, and freed by what frees operator new[]'s blocks */
extern void _ZdaPv(void *p) __attribute__((weak));
static void new_delete_mismatch(void)
{
	if (!_ZdaPv)
		_exit(3);
	_ZdaPv(get(SMALL));
	work(SMALL);
}

static const struct crime {
	const char *name;
	void (*commit)(void);
} crimes[] = {
#define CRIME(name) { #name, name }
	CRIME(double_free_small_at_once), CRIME(double_free_small_later), CRIME(twice_by_two_threads),
	CRIME(double_free_large), CRIME(free_stack), CRIME(free_static), CRIME(free_wild), CRIME(free_interior),
	CRIME(free_interior_large), CRIME(free_unaligned), CRIME(use_after_free_write), CRIME(use_after_free_read),
	CRIME(use_after_free_write_large), CRIME(overflow_small_by_one), CRIME(overflow_small_by_64),
	CRIME(overflow_large_by_one), CRIME(overflow_large_by_128k), CRIME(underflow_small), CRIME(underflow_large),
	CRIME(new_delete_mismatch),
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof crimes / sizeof *crimes; i++) {
		if (argc < 2)
			puts(crimes[i].name);
		else if (!strcmp(argv[1], crimes[i].name))
			crimes[i].commit();
	}
	return 0;
}
