#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does php work with its allocator on top of ours, without it, and with deep-bound extensions?
. "${BASH_SOURCE%/*}/lib.sh"
packages php-cli php-mbstring php-mysql php-xml
commands php
begin

# Debian's php loads extensions with RTLD_DEEPBIND: their malloc is the C library's.
under_test php -m >modules.out
for module in dom mbstring mysqlnd xml; do
	expect_text "php -m" "^$module$" modules.out
done
expect_text "php -m" "^Zend OPcache$" modules.out

for own in 1 0; do
	USE_ZEND_ALLOC=$own under_test php -d memory_limit=1G "$source_dir/src/work.php" \
		>"work.$own"
	result "USE_ZEND_ALLOC=$own" "$(paste -sd ' ' "work.$own")"
done
USE_ZEND_ALLOC=0 under_test php -d memory_limit=1G -d opcache.enable_cli=1 \
	-d opcache.jit_buffer_size=16M -d opcache.jit=tracing "$source_dir/src/work.php" >work.jit
result "opcache with its compiler" "$(paste -sd ' ' work.jit)"
cmp work.0 work.1
cmp work.0 work.jit
