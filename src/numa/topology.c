/* SPDX-License-Identifier: MIT */
/*
 * Loading libhakmem-topo.so, and what must not happen meanwhile.
 *
 * The load allocates, takes the dynamic linker's lock and runs the constructors of hwloc and
 * libnuma, on the reclaimer's thread. Its own lock is held for all of it, and
 *
 *   fork     takes that lock, so that no child is born with the linker's lists or the locks
 *            of those libraries half changed, as would not happen without hakmem. It waits
 *            LOAD_WAIT_NS at most: a thread that forks inside a constructor holds the linker's
 *            lock, which the load waits for; and a handler that ran before ours may hold what
 *            the load needs. In these cases the load has stopped where it changes nothing, and
 *            forking meanwhile is safe. Only a load that really takes longer is not, and no
 *            worse than a program that loads a library in one thread and forks in another.
 *   exit     waits as long at most, and lets no load begin: exit runs libnuma's destructor,
 *            which frees what a load would be reading.
 *
 * Looks at the list of loaded libraries, and opening the ring, take the same lock (engine.c).
 *
 * Neither can wait for ever, and nothing else waits for this lock. It is the one lock whose
 * holder allocates: its rank is fork's, below all that an allocation takes.
 */
#include "numa/topology.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "counters.h"
#include "die.h"
#include "lock.h"
#include "numa/node.h"
#include "options.h"
#include "sys/sys.h"

#define LIBRARY "libhakmem-topo.so"
#define LOAD_WAIT_NS ((uint64_t)1000000000)
#define PATH_BYTES 4096

typedef const struct hak_topo_ops *hak_topo_open_fn(unsigned abi);

static struct hak_lock load_lock = HAK_LOCK_INIT(HAK_RANK_FORK);
static bool closed;	 /* under it: no load begins any more */
static bool tried;	 /* under it: the library was looked for */
static bool fork_waited; /* the forking thread's: its wait ended with the lock */
static uint64_t machine; /* the reclaimer's: hak_node_machine() at the last load; 0: there was none */
static const struct hak_topo_ops *_Atomic ops;
static const struct hak_topology *_Atomic topology;
extern const struct hak_topology *_Atomic hak_topology_now __attribute__((alias("topology")));
static char source[PATH_BYTES]; /* HAKMEM_TOPOLOGY; "" if it is not set. Immutable after the constructor */

const struct hak_topology *hak_topology(void)
{
	/* acquire TOPOLOGY: what is in it */
	return atomic_load_explicit(&topology, memory_order_acquire);
}

const struct hak_topo_ops *hak_topo(void)
{
	/* acquire TOPOLOGY: the table that it is */
	return atomic_load_explicit(&ops, memory_order_acquire);
}

const char *hak_topology_source(void)
{
	static const char *const names[] = HAK_TOPO_SOURCE_NAMES;
	const struct hak_topology *t = hak_topology();
	return t ? names[t->source] : "builtin";
}

/* ---- start ------------------------------------------------------------------------ */

void hak_topology_start(void)
{
	const char *how = hak_option_strings[HAK_STR_topology];
	if (!how)
		return;
	/* a copy: programs that change their title write over their environment */
	const char *path = strncmp(how, "sysfs:", 6) == 0 ? how + 6 : how;
	if (strlen(how) < sizeof source && (strcmp(how, "builtin") == 0 || strncmp(how, "synthetic:", 10) == 0)) {
		strcpy(source, how);
		return;
	}
	int fd = hak_sys_open(path, O_RDONLY, 0);
	if (fd >= 0)
		hak_sys_close(fd);
	if (fd < 0 || strlen(how) >= sizeof source)
		hak_warn("HAKMEM_TOPOLOGY cannot be read, this machine's is used", how);
	else
		strcpy(source, how);
}

/* ---- load -------------------------------------------------------------------------- */

/* Beside our own library; else where the dynamic linker looks. */
static void *open_library(void)
{
	char path[PATH_BYTES];
	Dl_info self;
	struct hak_text t = { path, 0, sizeof path - 1 };
	/* a relative path is no longer where it was if the program changed its folder */
	if (dladdr(&load_lock, &self) && self.dli_fname && self.dli_fname[0] == '/') {
		hak_text_str(&t, self.dli_fname);
		path[t.len] = 0;
		t.len = (size_t)(strrchr(path, '/') + 1 - path);
		hak_text_str(&t, LIBRARY);
		path[t.len] = 0;
		void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		if (library)
			return library;
	}
	return dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
}

static void open_locked(void)
{
	void *library = open_library();
	void *entry = library ? dlsym(library, "hak_topo_open") : NULL;
	hak_topo_open_fn *open;
	tried = true;
	if (!entry)
		return;
	memcpy(&open, &entry, sizeof open); /* ISO C has no cast from object to function */
	/* release TOPOLOGY */
	atomic_store_explicit(&ops, open(HAK_TOPO_ABI), memory_order_release);
}

static void load_locked(void)
{
	struct hak_topology *t = NULL;
	if (!tried)
		open_locked();
	const struct hak_topo_ops *o = hak_topo();
	if (!o || ((!source[0] || o->load(source, hak_sys_map, &t)) && o->load(NULL, hak_sys_map, &t)))
		return;
	/* release TOPOLOGY. What was published before stays mapped: nobody says when it is no longer read */
	atomic_store_explicit(&topology, t, memory_order_release);
	hak_count(topologies, 1);
}

static void at_exit(void)
{
	bool waited = hak_lock_timed(&load_lock, LOAD_WAIT_NS);
	closed = true;
	if (waited)
		hak_unlock(&load_lock);
}

/* One node needs nothing that hwloc says, and a load leaves 2 to 3 MiB resident: more than many a
 * program has itself. */
static bool is_wanted(void)
{
	return source[0] || (hak_node_several() && hak_node_may_ask());
}

static bool may_load(void)
{
	static bool registered;
	/* a setuid program loads nothing by a name; a static one would load a second C library */
	if (strcmp(source, "builtin") == 0 || getauxval(AT_SECURE) || !getauxval(AT_BASE))
		return false;
	registered = registered || !atexit(at_exit);
	return registered;
}

void hak_topology_load(void)
{
	uint64_t now;
	if (!hak_sys_may_try(hak_sys_seccomp()) || (now = hak_node_machine()) == machine)
		return;
	if (machine)
		hak_node_changed();
	if (is_wanted() && may_load()) {
		hak_lock(&load_lock);
		if (!closed)
			load_locked();
		hak_unlock(&load_lock);
	}
	if (hak_topology())
		hak_node_topology(hak_topology());
	machine = now; /* last: what changed meanwhile, or was cut off by a fork, is loaded the next time */
}

const struct hak_topo_ops *hak_topology_library(void)
{
	/* asked before each pass: what reads a file comes last */
	if (!tried && !closed && may_load() && hak_sys_may_try(hak_sys_seccomp()))
		open_locked();
	return hak_topo();
}

bool hak_topology_enter(void)
{
	return hak_trylock(&load_lock);
}

void hak_topology_leave(void)
{
	hak_unlock(&load_lock);
}

/* ---- fork -------------------------------------------------------------------------- */

void hak_topology_fork_prepare(void)
{
	fork_waited = hak_lock_timed(&load_lock, LOAD_WAIT_NS);
}

void hak_topology_fork_parent(void)
{
	if (fork_waited)
		hak_unlock(&load_lock);
}

void hak_topology_fork_child(void)
{
	if (fork_waited)
		hak_lock_reset(&load_lock);
	else
		hak_topology_fork_raw();
}

/* A load that was cut off is not tried again: the linker's state is unknown. */
void hak_topology_fork_raw(void)
{
	/* relaxed: the child has one thread */
	if (atomic_load_explicit(&load_lock.state, memory_order_relaxed))
		closed = true;
	atomic_store_explicit(&load_lock.state, 0, memory_order_relaxed);
}
