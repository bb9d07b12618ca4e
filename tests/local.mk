# SPDX-License-Identifier: MIT
# A unit test is one line in unit_tests: tests/test_NAME.c, linked with the core and Check.
LDADD = libhakmem_core.la $(CHECK_LIBS) -lpthread -ldl -lm

# core_tests link the core and can be built with a sanitizer, which brings a malloc of its
# own. test_api takes all it calls from the shared library.
core_tests = \
	%D%/test_ace \
	%D%/test_failure \
	%D%/test_touched \
	%D%/test_faults \
	%D%/test_hardened \
	%D%/test_heap \
	%D%/test_holes \
	%D%/test_huge \
	%D%/test_node \
	%D%/test_limit \
	%D%/test_options \
	%D%/test_pool \
	%D%/test_price \
	%D%/test_prewarm \
	%D%/test_reclaim \
	%D%/test_route \
	%D%/test_slab \
	%D%/test_stats \
	%D%/test_stress \
	%D%/test_sys
unit_tests = $(core_tests) %D%/test_api
if BUILD_TOPO
core_tests += %D%/test_topology
unit_tests += %D%/test_ring %D%/test_topo
%C%_test_ring_LDADD = libhakmem-topo.la $(CHECK_LIBS) -lpthread
%C%_test_topo_LDADD = libhakmem-topo.la $(CHECK_LIBS) -lpthread
# What it loads at run time.
EXTRA_%C%_test_topology_DEPENDENCIES = libhakmem-topo.la
endif
EXTRA_DIST += %D%/suite.h

if HAVE_CHECK
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
endif
AM_CFLAGS += $(CHECK_CFLAGS)

# CORE_TESTS names those to run: all, unless time matters.
CORE_TESTS = $(core_tests)
check-core: $(CORE_TESTS)
	$(MAKE) $(AM_MAKEFLAGS) check-TESTS TESTS='$(CORE_TESTS)'
.PHONY: check-core

# Emulated machines with 1 to 8 nodes; the library as shipped and the unit tests in them.
check-numa: all
	$(MAKE) $(AM_MAKEFLAGS) check TESTS=
	bash $(srcdir)/%D%/numa/run.sh '$(abs_builddir)' $(NUMA_FLAGS)
.PHONY: check-numa

# Scripts test the shipped shape: each gets the library as its argument.
script_tests = %D%/exports.sh %D%/needed.sh %D%/hardened.sh
if BUILD_TOOLS
script_tests += %D%/tools/commands.sh %D%/tools/compat.sh %D%/tools/documented.sh %D%/tools/gdb.sh %D%/tools/guarded.sh %D%/tools/install.sh %D%/tools/probes.sh %D%/tools/profile.sh %D%/tools/replay.sh %D%/tools/report.sh %D%/tools/run.sh %D%/tools/stat.sh
check_PROGRAMS += %D%/tools/blocks %D%/tools/guarded %D%/tools/info %D%/tools/leak %D%/tools/learns %D%/tools/target %D%/tools/target_static %D%/tools/ways
endif
%C%_tools_blocks_CFLAGS = -g -O1 -fno-builtin
%C%_tools_blocks_LDADD = -lpthread
%C%_tools_guarded_CFLAGS = -g -O1 -fno-builtin -fno-optimize-sibling-calls
%C%_tools_guarded_LDADD = -lpthread
%C%_tools_info_CFLAGS = -g -O1 -fno-builtin
%C%_tools_leak_CFLAGS = -g -O1 -fno-builtin -fno-optimize-sibling-calls
%C%_tools_leak_LDADD = -lpthread
%C%_tools_learns_CFLAGS = -g -O1 -fno-builtin
%C%_tools_target_LDADD = -lpthread
%C%_tools_ways_CFLAGS = -g -O1 -fno-builtin
%C%_tools_ways_LDADD = -lpthread
%C%_tools_target_static_SOURCES = %D%/tools/target.c
%C%_tools_target_static_LDADD = libhakmem.la -lpthread -ldl
%C%_tools_target_static_LDFLAGS = -static
EXTRA_DIST += %D%/tools/lib.sh %D%/tools/profile_cost.sh %D%/container.sh
TESTS += $(script_tests)
dist_check_SCRIPTS += $(script_tests)
# Counts of instructions, in the build that their tables are of.
counting_tests = %D%/instructions.sh %D%/entry_points.sh
if COUNT_INSTRUCTIONS
TESTS += $(counting_tests)
endif
EXTRA_DIST += $(counting_tests) %D%/instructions.txt %D%/pair.c %D%/entry_points.txt %D%/entry_points.c
# Longer ones and those that install programs are steps of ./quickstart test.
EXTRA_DIST += %D%/crimes.c %D%/crimes.sh %D%/crimes_table.c %D%/crimes_table.sh %D%/preload_threads.c %D%/preload_threads.sh \
	%D%/foreign.c %D%/foreign.sh %D%/threads_end.c %D%/threads_end.sh %D%/limits.c %D%/limits.sh %D%/linking.sh %D%/properties.c %D%/properties.cc %D%/properties.sh %D%/surroundings.c %D%/surroundings.sh %D%/surroundings_hook.c %D%/programs %D%/numa %D%/topologies
EXTRA_DIST += %D%/libc_trap.c %D%/preload.sh %D%/soak %D%/soak_load.c %D%/results.sh
EXTRA_DIST += %D%/exports.txt %D%/fastpath.sh

# Static analysis, and how much of src/ the tests reach.
analyze:
	bash $(srcdir)/%D%/analyze.sh '$(abs_builddir)'
coverage:
	bash $(srcdir)/%D%/coverage.sh '$(abs_builddir)/coverage'
.PHONY: analyze coverage
EXTRA_DIST += .clang-tidy %D%/analyze.sh %D%/coverage.sh %D%/coverage.h

TEST_EXTENSIONS = .sh
SH_LOG_COMPILER = $(SHELL) $(srcdir)/%D%/with-library
EXTRA_DIST += %D%/with-library
AM_TESTS_ENVIRONMENT = HAK_LIBRARY='$(abs_builddir)/.libs/libhakmem.so'; export HAK_LIBRARY; \
	LD_LIBRARY_PATH='$(abs_builddir)/.libs'"$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}"; export LD_LIBRARY_PATH;
