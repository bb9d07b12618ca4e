/* SPDX-License-Identifier: MIT */
/*
 * Static trace points (USDT, provider "hakmem") for events of the slow paths: a nop each, and a
 * note that perf, bpftrace and gdb find them by. doc/tuning.md lists them.
 */
#ifndef HAK_PROBE_H
#define HAK_PROBE_H

#include "base.h"

#if HAVE_SDT
#include <sys/sdt.h>
#define HAK_PROBE(name, a, b) DTRACE_PROBE2(hakmem, name, a, b)
#else
#define HAK_PROBE(name, a, b) ((void)(a), (void)(b))
#endif

#endif
