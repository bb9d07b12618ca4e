/* SPDX-License-Identifier: MIT */
/* Start-up, thread exit, fork. */
#include "init.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ace/health.h"
#include "ace/learn.h"
#include "ace/prewarm.h"
#include "hardened.h"
#include "heap.h"
#include "limit.h"
#include "meta.h"
#include "numa/engine.h"
#include "numa/huge.h"
#include "numa/topology.h"
#include "options.h"
#include "reclaim.h"
#include "record.h"
#include "sys/sys.h"

#define FREES_BEFORE_HEAP 16u /* a thread that only frees gets a heap to buffer them */

enum thread_state { THREAD_NEW, THREAD_LIVE, THREAD_ENDED };

static HAK_TLS enum thread_state state;
static HAK_TLS uint32_t frees;

static struct hak_lock init_lock = HAK_LOCK_INIT(HAK_RANK_FORK);
static _Atomic bool started;
static pthread_key_t key;
/* a word that a fork's child finds zeroed (MADV_WIPEONFORK); NULL where there is none */
static _Atomic uint32_t *not_forked;

static void thread_end(void *arg)
{
	struct hak_heap *h = hak_heap_self;
	(void)arg;
	state = THREAD_ENDED;
	hak_heap_self = &hak_heap_none;
	if (h == &hak_heap_none)
		return;
	hak_heap_flush(h);
	hak_heap_park(h);
}

/* The C library knows the environment before its own constructor, and so before anybody else's. */
static void read_options(char **envp)
{
	static bool done;
	if (done || !envp)
		return;
	done = true;
	hak_options_read(envp);
}

static bool start(void)
{
	/* acquire START */
	if (atomic_load_explicit(&started, memory_order_acquire))
		return true;
	hak_lock(&init_lock);
	if (!atomic_load_explicit(&started, memory_order_relaxed)) {
		read_options(environ);
		hak_sys_seccomp_start();
		hak_hardened_start();
		if (!hak_arena_init() || pthread_key_create(&key, thread_end)) {
			hak_unlock(&init_lock);
			return false;
		}
		_Atomic uint32_t *word = hak_sys_map(HAK_PAGE);
		if (word && hak_sys.madvise_own((void *)word, HAK_PAGE, MADV_WIPEONFORK) == 0) {
			*word = 1;
			not_forked = word;
		} else if (word) {
			hak_sys.munmap_own((void *)word, HAK_PAGE);
		}
		/* release START */
		atomic_store_explicit(&started, true, memory_order_release);
	}
	hak_unlock(&init_lock);
	return true;
}

static HAK_COLD void fork_raw(void)
{
	if (hak_lock_all_held) /* an early handler in fork's child: ours is yet to come */
		return;
	*not_forked = 1;
	init_lock.state = 0;
	hak_topology_fork_raw();
	hak_reclaim_lock.state = 0;
	hak_own_fork_raw();
	hak_huge_fork_raw();
	hak_huge_lock.state = 0;
	hak_arena_lock.state = 0;
	hak_meta_fork_raw();
	hak_heap_fork_raw(hak_heap_self);
	if (hak_heap_self->abandoned) { /* a thread that is not here was in the middle of changing it */
		hak_heap_self = &hak_heap_none;
		state = THREAD_NEW;
	}
	hak_reclaim_forked(false);
	hak_engine_forked(true);
	hak_sys_apart_forked();
	hak_record_forked(false);
}

void hak_fork_check(void)
{
	/* relaxed: set before the thread that reads it existed */
	if (hak_unlikely(not_forked && !atomic_load_explicit(not_forked, memory_order_relaxed)))
		fork_raw();
}

static struct hak_heap *attach(void)
{
	struct hak_heap *h = hak_heap_acquire(hak_node_mine());
	if (!h)
		return NULL;
	/* before setspecific, which may allocate */
	hak_heap_self = h;
	state = THREAD_LIVE;
	/* without memory for the key's value the heap is lost at the thread's end, no more */
	pthread_setspecific(key, h);
	return h;
}

/* The thread has moved to another node, or its policy has changed: its heap stays where it
 * belongs, for the next thread there. No hysteresis: changing heaps back and forth costs two
 * list operations. */
struct hak_heap *hak_self_change(struct hak_heap *h)
{
	unsigned node = hak_node_mine();
	struct hak_heap *other = node == h->node ? NULL : hak_heap_acquire(node);
	if (!other)
		return h;
	hak_heap_self = other;
	hak_heap_flush(h);
	h->stale = false;
	hak_heap_park(h);
	return other;
}

struct hak_heap *hak_self_settle(struct hak_heap *h)
{
	return hak_likely(hak_node_still(h->node)) ? h : hak_self_change(h);
}

struct hak_heap *hak_self(bool *transient)
{
	*transient = false;
	hak_fork_check(); /* may take our heap away */
	struct hak_heap *h = hak_heap_self;
	if (h != &hak_heap_none)
		return hak_self_settle(h);
	if (!start())
		return NULL;
	if (state != THREAD_ENDED)
		return attach();
	*transient = true;
	return hak_heap_acquire(hak_node_mine());
}

struct hak_heap *hak_self_if_any(void)
{
	/* hardened, what it frees is to wait with it */
	uint32_t before = hak_hardened ? 0 : FREES_BEFORE_HEAP;
	if (hak_heap_self == &hak_heap_none && state == THREAD_NEW && ++frees > before)
		attach();
	return hak_heap_self;
}

/* ---- fork ------------------------------------------------------------------------ */

static void fork_prepare(void)
{
	hak_lock(&init_lock);
	hak_topology_fork_prepare();
	hak_lock(&hak_reclaim_lock);
	hak_heap_fork_prepare();
	hak_lock(&hak_huge_lock);
	hak_lock(&hak_arena_lock);
	hak_lock(&hak_meta_lock);
	hak_lock_all_held = true;
}

static void fork_parent(void)
{
	hak_lock_all_held = false;
	hak_unlock(&hak_meta_lock);
	hak_unlock(&hak_arena_lock);
	hak_unlock(&hak_huge_lock);
	hak_heap_fork_parent();
	hak_unlock(&hak_reclaim_lock);
	hak_topology_fork_parent();
	hak_unlock(&init_lock);
}

static void fork_child(void)
{
	hak_lock_all_held = false;
	if (not_forked)
		*not_forked = 1;
	hak_lock_reset(&hak_meta_lock);
	hak_lock_reset(&hak_arena_lock);
	hak_lock_reset(&hak_huge_lock);
	hak_heap_fork_child(hak_heap_self);
	hak_lock_reset(&hak_reclaim_lock);
	hak_topology_fork_child();
	hak_lock_reset(&init_lock);
	hak_reclaim_forked(true);
	hak_engine_forked(false);
	hak_limit_forked();
	hak_sys_apart_forked();
	hak_record_forked(true);
}

/* ---- process --------------------------------------------------------------------- */

__attribute__((constructor)) static void library_start(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	read_options(envp);
	hak_record_start();
	hak_topology_start();
	hak_limit_start();
	start();
	hak_learn_start();
	hak_prewarm_start();
	pthread_atfork(fork_prepare, fork_parent, fork_child);
	hak_reclaim_ready();
	if (!hak_option_get(HAK_OPT_reclaim)) /* there will be no thread to do it */
		hak_prewarm_fill();
}

__attribute__((destructor)) static void library_end(void)
{
	hak_record_exit();
	hak_health_exit();
	hak_heap_return_cached(hak_heap_self);
}
