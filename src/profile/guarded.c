/* SPDX-License-Identifier: MIT */
/* The pool of guarded blocks: its slots, opened and closed. */
#include "profile/guarded.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "die.h"
#include "profile/crash.h"
#include "record.h"
#include "sys/sys.h"

#define PATTERN 0xa5
#define NONE UINT32_MAX

uintptr_t hak_guarded_base;
size_t hak_guarded_bytes;

/* under the profile's lock, as all below */
static struct hak_guarded *slots;
static uint32_t count, oldest = NONE, newest = NONE; /* free slots: first in, first out */

/* The pages of a block. */
struct pages {
	char *from, *to;
};

static struct pages pages_of(const void *p, size_t bytes)
{
	return (struct pages){ (char *)hak_align_down((uintptr_t)p, HAK_PAGE),
			       (char *)hak_align_up((uintptr_t)p + bytes, HAK_PAGE) };
}

static char *start_of(uint32_t slot)
{
	return (char *)hak_guarded_base + HAK_PAGE + slot * HAK_GUARDED_UNIT;
}

/* That it lies in, or is the guard behind; of the first guard, the first. */
static uint32_t slot_of(uintptr_t address)
{
	size_t offset = address - hak_guarded_base;
	return offset < HAK_PAGE ? 0 : (uint32_t)((offset - HAK_PAGE) / HAK_GUARDED_UNIT);
}

static uint32_t take(void)
{
	hak_profile_lock();
	uint32_t slot = oldest;
	if (slot != NONE) {
		oldest = slots[slot].next;
		if (oldest == NONE)
			newest = NONE;
		hak_crash_watch_locked();
	}
	hak_profile_unlock();
	return slot;
}

static void put_locked(uint32_t slot)
{
	slots[slot].next = NONE;
	if (newest == NONE)
		oldest = slot;
	else
		slots[newest].next = slot;
	newest = slot;
}

static void put(uint32_t slot)
{
	hak_profile_lock();
	put_locked(slot);
	hak_profile_unlock();
}

void hak_guarded_start(long want)
{
	size_t table = (size_t)want * sizeof *slots, bytes = HAK_PAGE + (size_t)want * HAK_GUARDED_UNIT;
	slots = hak_sys_map(table);
	void *pool = slots ? hak_sys.mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) :
			     MAP_FAILED;
	if (pool == MAP_FAILED) {
		hak_warn("there is no memory for guarded blocks", NULL);
		return;
	}
	hak_sys_name(slots, table, "hakmem: profile");
	hak_sys_name(pool, bytes, "hakmem: guarded");
	hak_guarded_base = (uintptr_t)pool;
	hak_profile_lock();
	for (count = 0; count < (uint32_t)want; count++)
		put_locked(count);
	hak_crash_watch_locked();
	hak_profile_unlock();
	hak_guarded_bytes = bytes;
}

void *hak_guarded_alloc(size_t align, size_t bytes, uint64_t chance)
{
	bytes = hak_max(bytes, 1);
	if (!hak_guarded_bytes || bytes > HAK_GUARDED_ROOM || align > HAK_PAGE)
		return NULL;
	uint32_t slot = take();
	if (slot == NONE)
		return NULL;
	size_t offset = chance & 1 ? 0 : hak_align_down(HAK_GUARDED_ROOM - bytes, hak_max(align, HAK_MIN_ALIGN));
	char *p = start_of(slot) + offset;
	struct pages all = pages_of(p, bytes);
	if (hak_sys.mprotect(all.from, (size_t)(all.to - all.from), PROT_READ | PROT_WRITE)) {
		put(slot); /* there are too many mappings */
		return NULL;
	}
	memset(all.from, PATTERN, (size_t)(p - all.from));
	memset(p + bytes, PATTERN, (size_t)(all.to - (p + bytes)));
	return p;
}

void hak_guarded_arm(void *p, size_t bytes, const struct hak_profile_site *by)
{
	int thread = (int)syscall(SYS_gettid);
	hak_profile_lock();
	struct hak_guarded *s = &slots[slot_of((uintptr_t)p)];
	*s = (struct hak_guarded){ .state = HAK_GUARDED_LIVE,
				   .address = (uintptr_t)p,
				   .bytes = hak_max(bytes, 1),
				   .allocated = by,
				   .allocated_by = thread };
	hak_profile_unlock();
}

static bool is_pattern(const char *from, const char *to)
{
	for (; from < to; from++)
		if ((unsigned char)*from != PATTERN)
			return false;
	return true;
}

static const char *fault_of(const struct hak_guarded *s, uintptr_t address)
{
	if (s->address != address || s->state == HAK_GUARDED_UNUSED)
		return "not the start of a block";
	return s->state == HAK_GUARDED_FREED ? "double free" : NULL;
}

void hak_guarded_free(const char *function, void *p, const struct hak_profile_site *by)
{
	int thread = (int)syscall(SYS_gettid);
	uint32_t slot = slot_of((uintptr_t)p);
	hak_profile_lock();
	struct hak_guarded *s = &slots[slot], was = *s;
	const char *fault = fault_of(s, (uintptr_t)p);
	if (!fault) {
		s->state = HAK_GUARDED_FREED;
		s->freed = by;
		s->freed_by = thread;
	}
	hak_profile_unlock();
	if (fault) {
		hak_crash_bad_free(function, fault, p, &was, thread, by);
		return;
	}
	struct pages all = pages_of(p, was.bytes);
	if (!is_pattern((char *)p + was.bytes, all.to))
		hak_crash_bad_free(function, "block was written behind its end", p, &was, thread, by);
	if (!is_pattern(all.from, p))
		hak_crash_bad_free(function, "block was written before its start", p, &was, thread, by);
	/* should either fail, the block is less well guarded, and no more: calloc clears what it hands out */
	(void)hak_sys.mprotect(all.from, (size_t)(all.to - all.from), PROT_NONE);
	(void)hak_sys.madvise(all.from, (size_t)(all.to - all.from), MADV_DONTNEED);
	put(slot);
}

size_t hak_guarded_size(const void *p)
{
	hak_profile_lock();
	const struct hak_guarded *s = &slots[slot_of((uintptr_t)p)];
	size_t bytes = s->state == HAK_GUARDED_LIVE && s->address == (uintptr_t)p ? s->bytes : 0;
	hak_profile_unlock();
	return bytes;
}

static size_t distance(const struct hak_guarded *s, uintptr_t address)
{
	return address < s->address ? s->address - address : address - (s->address + s->bytes);
}

struct hak_guarded hak_guarded_blame(uintptr_t address, bool *first)
{
	uint32_t slot = slot_of(address);
	bool between = address >= (uintptr_t)start_of(slot) + HAK_GUARDED_ROOM && slot + 1 < count;
	hak_profile_lock();
	struct hak_guarded *s = &slots[slot], *after = s + 1;
	if (between && (after->state != s->state ? after->state > s->state :
						   distance(after, address) < distance(s, address)))
		s = after;
	*first = !s->reported;
	s->reported = true;
	struct hak_guarded found = *s;
	hak_profile_unlock();
	return found;
}
