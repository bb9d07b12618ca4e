# SPDX-License-Identifier: MIT
# bench/: what is built for the benchmarks, and only when asked for: `make bench`.
# Makefile.am starts EXTRA_PROGRAMS, EXTRA_DIST and CLEANFILES as empty lists.

bench_programs = \
	%D%/micro/churn \
	%D%/micro/empty \
	%D%/micro/growth \
	%D%/micro/idle \
	%D%/micro/larson \
	%D%/micro/measure \
	%D%/micro/mixed33k \
	%D%/micro/prodcons \
	%D%/micro/random_mixed

EXTRA_PROGRAMS += $(bench_programs)
CLEANFILES += $(bench_programs)
EXTRA_DIST += %D%/run %D%/README.md

# The flags are the benchmarks' own, so that a debug or sanitizer build of the library is still
# measured by the same programs. Without -fno-builtin compilers remove malloc/free pairs.
bench_cflags = -std=gnu11 -O2 -g -fno-builtin -pthread
bench_ldflags = -pthread

%C%_micro_churn_SOURCES = %D%/micro/churn.c %D%/micro/bench.h
%C%_micro_churn_CFLAGS = $(bench_cflags)
%C%_micro_churn_LDFLAGS = $(bench_ldflags)
%C%_micro_churn_LDADD =

%C%_micro_empty_SOURCES = %D%/micro/empty.c %D%/micro/bench.h
%C%_micro_empty_CFLAGS = $(bench_cflags)
%C%_micro_empty_LDFLAGS = $(bench_ldflags)
%C%_micro_empty_LDADD =

%C%_micro_growth_SOURCES = %D%/micro/growth.c %D%/micro/bench.h
%C%_micro_growth_CFLAGS = $(bench_cflags)
%C%_micro_growth_LDFLAGS = $(bench_ldflags)
%C%_micro_growth_LDADD =

%C%_micro_idle_SOURCES = %D%/micro/idle.c %D%/micro/bench.h
%C%_micro_idle_CFLAGS = $(bench_cflags)
%C%_micro_idle_LDFLAGS = $(bench_ldflags)
%C%_micro_idle_LDADD =

%C%_micro_larson_SOURCES = %D%/micro/larson.c %D%/micro/bench.h
%C%_micro_larson_CFLAGS = $(bench_cflags)
%C%_micro_larson_LDFLAGS = $(bench_ldflags)
%C%_micro_larson_LDADD =

%C%_micro_measure_SOURCES = %D%/micro/measure.c
%C%_micro_measure_CFLAGS = $(bench_cflags)
%C%_micro_measure_LDFLAGS = $(bench_ldflags)
%C%_micro_measure_LDADD =

%C%_micro_mixed33k_SOURCES = %D%/micro/mixed33k.c %D%/micro/bench.h
%C%_micro_mixed33k_CFLAGS = $(bench_cflags)
%C%_micro_mixed33k_LDFLAGS = $(bench_ldflags)
%C%_micro_mixed33k_LDADD =

%C%_micro_prodcons_SOURCES = %D%/micro/prodcons.c %D%/micro/bench.h
%C%_micro_prodcons_CFLAGS = $(bench_cflags)
%C%_micro_prodcons_LDFLAGS = $(bench_ldflags)
%C%_micro_prodcons_LDADD =

%C%_micro_random_mixed_SOURCES = %D%/micro/random_mixed.c %D%/micro/bench.h
%C%_micro_random_mixed_CFLAGS = $(bench_cflags)
%C%_micro_random_mixed_LDFLAGS = $(bench_ldflags)
%C%_micro_random_mixed_LDADD =

bench: $(bench_programs)
.PHONY: bench
