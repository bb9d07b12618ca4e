# SPDX-License-Identifier: MIT
# bench/: what is built for the benchmarks, and only when asked for: `make bench`.
# Makefile.am starts EXTRA_PROGRAMS, EXTRA_DIST and CLEANFILES as empty lists.

bench_programs = \
	%D%/micro/aligned \
	%D%/micro/barnes \
	%D%/micro/cfrac \
	%D%/micro/churn \
	%D%/micro/empty \
	%D%/micro/false_sharing \
	%D%/micro/first_touch \
	%D%/micro/free_only \
	%D%/micro/giveback \
	%D%/micro/growth \
	%D%/micro/hashmap \
	%D%/micro/idle \
	%D%/micro/illfit \
	%D%/micro/larson \
	%D%/micro/latency \
	%D%/micro/measure \
	%D%/micro/memory \
	%D%/micro/mixed33k \
	%D%/micro/nodes \
	%D%/micro/parse \
	%D%/micro/phases \
	%D%/micro/prodcons \
	%D%/micro/random_mixed \
	%D%/micro/server \
	%D%/micro/tables \
	%D%/micro/trees

EXTRA_PROGRAMS += $(bench_programs)
CLEANFILES += $(bench_programs)
EXTRA_DIST += %D%/libc_malloc.c %D%/run %D%/numa %D%/selftest %D%/README.md %D%/suite %D%/macro

# The flags are the benchmarks' own, so that a debug or sanitizer build of the library is still
# measured by the same programs. Without -fno-builtin compilers remove malloc/free pairs.
bench_cflags = -std=gnu11 -O2 -g -fno-builtin -pthread

%C%_micro_aligned_SOURCES = %D%/micro/aligned.c %D%/micro/bench.h
%C%_micro_aligned_CFLAGS = $(bench_cflags)
%C%_micro_aligned_LDADD =

%C%_micro_barnes_SOURCES = %D%/micro/barnes.c %D%/micro/bench.h
%C%_micro_barnes_CFLAGS = $(bench_cflags)
%C%_micro_barnes_LDADD = -lm

%C%_micro_cfrac_SOURCES = %D%/micro/cfrac.c %D%/micro/bench.h
%C%_micro_cfrac_CFLAGS = $(bench_cflags)
%C%_micro_cfrac_LDADD =

%C%_micro_churn_SOURCES = %D%/micro/churn.c %D%/micro/bench.h
%C%_micro_churn_CFLAGS = $(bench_cflags)
%C%_micro_churn_LDADD =

%C%_micro_empty_SOURCES = %D%/micro/empty.c %D%/micro/bench.h
%C%_micro_empty_CFLAGS = $(bench_cflags)
%C%_micro_empty_LDADD =

%C%_micro_false_sharing_SOURCES = %D%/micro/false_sharing.c %D%/micro/bench.h
%C%_micro_false_sharing_CFLAGS = $(bench_cflags)
%C%_micro_false_sharing_LDADD =

%C%_micro_first_touch_SOURCES = %D%/micro/first_touch.c %D%/micro/bench.h
%C%_micro_first_touch_CFLAGS = $(bench_cflags)
%C%_micro_first_touch_LDADD =

%C%_micro_free_only_SOURCES = %D%/micro/free_only.c %D%/micro/bench.h
%C%_micro_free_only_CFLAGS = $(bench_cflags)
%C%_micro_free_only_LDADD =

%C%_micro_giveback_SOURCES = %D%/micro/giveback.c %D%/micro/charge.h %D%/micro/bench.h
%C%_micro_giveback_CFLAGS = $(bench_cflags)
%C%_micro_giveback_LDADD =

%C%_micro_growth_SOURCES = %D%/micro/growth.c %D%/micro/bench.h
%C%_micro_growth_CFLAGS = $(bench_cflags)
%C%_micro_growth_LDADD =

%C%_micro_hashmap_SOURCES = %D%/micro/hashmap.c %D%/micro/bench.h
%C%_micro_hashmap_CFLAGS = $(bench_cflags)
%C%_micro_hashmap_LDADD =

%C%_micro_idle_SOURCES = %D%/micro/idle.c %D%/micro/bench.h
%C%_micro_idle_CFLAGS = $(bench_cflags)
%C%_micro_idle_LDADD =

%C%_micro_illfit_SOURCES = %D%/micro/illfit.c %D%/micro/bench.h
%C%_micro_illfit_CFLAGS = $(bench_cflags)
%C%_micro_illfit_LDADD =

%C%_micro_larson_SOURCES = %D%/micro/larson.c %D%/micro/bench.h
%C%_micro_larson_CFLAGS = $(bench_cflags)
%C%_micro_larson_LDADD =

%C%_micro_latency_SOURCES = %D%/micro/latency.c %D%/micro/bench.h
%C%_micro_latency_CFLAGS = $(bench_cflags)
%C%_micro_latency_LDADD =

%C%_micro_measure_SOURCES = %D%/micro/measure.c
%C%_micro_measure_CFLAGS = $(bench_cflags)
%C%_micro_measure_LDADD =

%C%_micro_memory_SOURCES = %D%/micro/memory.c %D%/micro/charge.h %D%/micro/bench.h
%C%_micro_memory_CFLAGS = $(bench_cflags)
%C%_micro_memory_LDADD =

%C%_micro_mixed33k_SOURCES = %D%/micro/mixed33k.c %D%/micro/bench.h
%C%_micro_mixed33k_CFLAGS = $(bench_cflags)
%C%_micro_mixed33k_LDADD =

%C%_micro_nodes_SOURCES = %D%/micro/nodes.c %D%/micro/bench.h
%C%_micro_nodes_CFLAGS = $(bench_cflags)
%C%_micro_nodes_LDADD =

%C%_micro_parse_SOURCES = %D%/micro/parse.c %D%/micro/bench.h
%C%_micro_parse_CFLAGS = $(bench_cflags)
%C%_micro_parse_LDADD =

%C%_micro_phases_SOURCES = %D%/micro/phases.c %D%/micro/bench.h
%C%_micro_phases_CFLAGS = $(bench_cflags)
%C%_micro_phases_LDADD =

%C%_micro_prodcons_SOURCES = %D%/micro/prodcons.c %D%/micro/bench.h
%C%_micro_prodcons_CFLAGS = $(bench_cflags)
%C%_micro_prodcons_LDADD =

%C%_micro_random_mixed_SOURCES = %D%/micro/random_mixed.c %D%/micro/bench.h
%C%_micro_random_mixed_CFLAGS = $(bench_cflags)
%C%_micro_random_mixed_LDADD =

%C%_micro_server_SOURCES = %D%/micro/server.c %D%/micro/bench.h
%C%_micro_server_CFLAGS = $(bench_cflags)
%C%_micro_server_LDADD =

%C%_micro_tables_SOURCES = %D%/micro/tables.c %D%/micro/bench.h
%C%_micro_tables_CFLAGS = $(bench_cflags)
%C%_micro_tables_LDADD =

%C%_micro_trees_SOURCES = %D%/micro/trees.c %D%/micro/bench.h
%C%_micro_trees_CFLAGS = $(bench_cflags)
%C%_micro_trees_LDADD =

bench: $(bench_programs)
.PHONY: bench

# doc/reclaim-study.md: one command
EXTRA_PROGRAMS += %D%/reclaim_study
CLEANFILES += %D%/reclaim_study
%C%_reclaim_study_SOURCES = %D%/reclaim_study.c
%C%_reclaim_study_CFLAGS = $(bench_cflags)
%C%_reclaim_study_LDFLAGS = $(bench_ldflags)
%C%_reclaim_study_LDADD = -ldl
reclaim-study: %D%/reclaim_study all
	%D%/reclaim_study --library '$(abs_builddir)/.libs/libhakmem-topo.so'
.PHONY: reclaim-study
