# SPDX-License-Identifier: MIT
# Fuzzers, for libFuzzer: built and run by fuzz/run.sh, in a tree that clang's
# -fsanitize=fuzzer-no-link was given to.
fuzzers = %D%/blocks %D%/options
if BUILD_TOPO
fuzzers += %D%/topology
endif
EXTRA_PROGRAMS += $(fuzzers)
EXTRA_DIST += %D%/corpus %D%/run.sh

%C%_blocks_LDFLAGS = -fsanitize=fuzzer
%C%_blocks_LDADD = libhakmem_core.la -lpthread -ldl
%C%_options_LDFLAGS = -fsanitize=fuzzer
%C%_options_LDADD = libhakmem_core.la -lpthread -ldl
%C%_topology_SOURCES = %D%/topology.c $(libhakmem_topo_la_SOURCES)
%C%_topology_CFLAGS = $(libhakmem_topo_la_CFLAGS)
%C%_topology_LDFLAGS = -fsanitize=fuzzer
%C%_topology_LDADD = libhakmem_core.la $(libhakmem_topo_la_LIBADD) -lpthread -ldl

fuzz: $(fuzzers)
.PHONY: fuzz
