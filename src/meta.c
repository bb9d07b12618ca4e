/* SPDX-License-Identifier: MIT */
/* A bump allocator over mapped chunks with a free list for each power of two. */
#include "meta.h"

#include <errno.h>
#include <string.h>

#include "counters.h"
#include "failure.h"
#include "sys/sys.h"

#define CHUNK ((size_t)256 << 10) /* below a huge page, so never backed by one */
#define MIN_SHIFT 6
#define MAX_SHIFT 15
_Static_assert(HAK_META_MAX == (size_t)1 << MAX_SHIFT, "largest piece");

struct free_piece {
	struct free_piece *next;
};

struct hak_lock hak_meta_lock = HAK_LOCK_INIT(HAK_RANK_META);
static struct free_piece *pieces[MAX_SHIFT + 1]; /* under the lock, as all below */
static char *bump, *bump_end;

static unsigned shift_of(size_t bytes)
{
	unsigned s = MIN_SHIFT;
	while (((size_t)1 << s) < bytes)
		s++;
	return s;
}

/* What is left of a chunk serves smaller requests. */
static void retire_bump_locked(void)
{
	while (bump_end - bump >= (1 << MIN_SHIFT)) {
		unsigned s = MAX_SHIFT;
		while (((size_t)1 << s) > (size_t)(bump_end - bump) || ((uintptr_t)bump & (((size_t)1 << s) - 1)))
			s--;
		struct free_piece *f = (struct free_piece *)bump;
		f->next = pieces[s];
		pieces[s] = f;
		bump += (size_t)1 << s;
	}
}

void *hak_meta_alloc(size_t bytes)
{
	unsigned s = shift_of(bytes);
	size_t size = (size_t)1 << s;
	if (s > MAX_SHIFT)
		return NULL;
	hak_lock(&hak_meta_lock);
	struct free_piece *f = pieces[s];
	void *p = f;
	if (f) {
		pieces[s] = f->next;
	} else {
		size_t align = hak_min(size, HAK_PAGE);
		size_t pad = hak_align_up((uintptr_t)bump, align) - (uintptr_t)bump;
		if (pad + size > (size_t)(bump_end - bump)) {
			char *chunk = hak_sys_map(CHUNK);
			if (!chunk) {
				hak_unlock(&hak_meta_lock);
				hak_failure_map(CHUNK, errno);
				return NULL;
			}
			hak_sys_name(chunk, CHUNK, "hakmem: metadata");
			retire_bump_locked();
			hak_count(metadata, CHUNK);
			bump = chunk;
			bump_end = chunk + CHUNK;
			pad = 0;
		}
		for (; pad; pad -= (size_t)1 << MIN_SHIFT, bump += (size_t)1 << MIN_SHIFT) {
			((struct free_piece *)bump)->next = pieces[MIN_SHIFT];
			pieces[MIN_SHIFT] = (struct free_piece *)bump;
		}
		p = bump;
		bump += size;
	}
	hak_unlock(&hak_meta_lock);
	memset(p, 0, size);
	return p;
}

void hak_meta_free(void *p, size_t bytes)
{
	unsigned s = shift_of(bytes);
	struct free_piece *f = p;
	hak_lock(&hak_meta_lock);
	f->next = pieces[s];
	pieces[s] = f;
	hak_unlock(&hak_meta_lock);
}

void hak_meta_fork_raw(void)
{
	if (!hak_meta_lock.state)
		return;
	hak_meta_lock.state = 0;
	memset(pieces, 0, sizeof pieces);
	bump = bump_end = NULL;
}
