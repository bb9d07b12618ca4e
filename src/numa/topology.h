/* SPDX-License-Identifier: MIT */
/*
 * The second library, libhakmem-topo.so, and the topology that it finds, on the reclaimer's
 * thread, off the program's path; until then, and where it cannot be loaded, all below is NULL
 * and hakmem goes by what sysfs and getcpu say.
 */
#ifndef HAK_TOPOLOGY_H
#define HAK_TOPOLOGY_H

#include "base.h"
#include "topo/topo.h"

/* This machine, or the one that HAKMEM_TOPOLOGY describes. Immutable, never unmapped; another one
 * takes its place when the machine changes. */
const struct hak_topology *hak_topology(void);
extern const struct hak_topology *_Atomic hak_topology_now; /* the same, for the live block alone */

/* The second library's functions, once it is open; for the reclaimer's thread. */
const struct hak_topo_ops *hak_topo(void);

/* Where the topology is from, for statistics: "builtin" if nothing is loaded. */
const char *hak_topology_source(void);

/* In the constructor: keeps the option. */
void hak_topology_start(void);

/* On the reclaimer's thread, no lock held: on a machine with several nodes, or where HAKMEM_TOPOLOGY names
 * one, loads library and topology; the topology again if CPUs or nodes have come or gone since, else it costs
 * reading five small files. */
void hak_topology_load(void);

/*
 * For other work of the reclaimer's thread that takes the dynamic linker's lock or allocates: fork
 * and exit are excluded in between. False: one of them is under way. No lock held.
 */
bool hak_topology_enter(void);
void hak_topology_leave(void);

/* In between: opens the library, if nothing forbids it, whatever the machine. */
const struct hak_topo_ops *hak_topology_library(void);

/* fork waits for a load, a child of fork never sees half a one. */
void hak_topology_fork_prepare(void);
void hak_topology_fork_parent(void);
void hak_topology_fork_child(void);
void hak_topology_fork_raw(void);

#endif
