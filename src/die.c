/* SPDX-License-Identifier: MIT */
/* The only output hakmem makes on its own account. */
#include "die.h"

#include <errno.h>
#include <stdlib.h>

#include "counters.h"
#include "options.h"
#include "probe.h"
#include "sys/sys.h"

#define LINE 256

void hak_text_str(struct hak_text *t, const char *s)
{
	while (*s && t->len < t->cap)
		t->buf[t->len++] = *s++;
}

static void text_base(struct hak_text *t, uint64_t v, unsigned base)
{
	char digits[24];
	int n = 0;
	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (n && t->len < t->cap)
		t->buf[t->len++] = digits[--n];
}

void hak_text_u64(struct hak_text *t, uint64_t v)
{
	text_base(t, v, 10);
}

void hak_text_hex(struct hak_text *t, uint64_t v)
{
	hak_text_str(t, "0x");
	text_base(t, v, 16);
}

bool hak_text_write(const struct hak_text *t, int fd)
{
	for (size_t done = 0; done < t->len;) {
		ssize_t n = hak_sys_write(fd, t->buf + done, t->len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static void say(const struct hak_text *t)
{
	int fd = hak_sys_stderr();
	hak_text_write(t, fd);
	hak_sys_stderr_done(fd);
}

_Noreturn void hak_die(const char *what, const void *where)
{
	char line[LINE];
	struct hak_text t = { line, 0, sizeof line };
	hak_text_str(&t, "hakmem: ");
	hak_text_str(&t, what);
	hak_text_str(&t, ": ");
	hak_text_hex(&t, (uintptr_t)where);
	hak_text_str(&t, "\n");
	say(&t);
	abort();
}

void hak_fault(const char *fault, const void *pointer, size_t block_bytes, uint32_t heap)
{
	hak_fault_in("free", fault, pointer, block_bytes, heap);
}

void hak_fault_in(const char *function, const char *fault, const void *pointer, size_t block_bytes, uint32_t heap)
{
	hak_fault_line(function, fault, pointer, block_bytes, heap);
	hak_fault_end();
}

void hak_fault_line(const char *function, const char *fault, const void *pointer, size_t block_bytes, uint32_t heap)
{
	char line[LINE];
	struct hak_text t = { line, 0, sizeof line };
	HAK_PROBE(fault, pointer, block_bytes);
	hak_text_str(&t, "hakmem: ");
	hak_text_str(&t, function);
	hak_text_str(&t, "(): ");
	hak_text_str(&t, fault);
	hak_text_str(&t, ": pointer ");
	hak_text_hex(&t, (uintptr_t)pointer);
	if (block_bytes) {
		hak_text_str(&t, ", block size ");
		hak_text_u64(&t, block_bytes);
	}
	if (heap) {
		hak_text_str(&t, ", heap ");
		hak_text_u64(&t, heap);
	}
	hak_text_str(&t, "\n");
	say(&t);
}

void hak_fault_end(void)
{
	if (hak_option_get(HAK_OPT_abort))
		abort();
	hak_count(faults, 1);
}

void hak_warn(const char *what, const char *detail)
{
	char line[LINE];
	struct hak_text t = { line, 0, sizeof line - 1 };
	hak_text_str(&t, "hakmem: ");
	hak_text_str(&t, what);
	if (detail) {
		hak_text_str(&t, ": ");
		hak_text_str(&t, detail);
	}
	t.cap++;
	hak_text_str(&t, "\n");
	say(&t);
}
