#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Do tar and a threaded xz give back what they packed?
. "${BASH_SOURCE%/*}/lib.sh"
packages tar xz-utils zstd python3
commands tar xz zstd "$python"
begin

"$python" -I "$source_dir/src/make_tree.py" tree
wanted=$(cd tree && find . -type f -exec sha256sum {} + | sort | digest -)

under_test tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf tree.tar tree
# Small blocks, so that both threads have several.
under_test xz -T2 -3 --block-size=1MiB -k tree.tar
under_test xz -T2 -t tree.tar.xz
under_test zstd -q -T2 -7 tree.tar
mkdir one two
# tar starts the packer itself: the preload has to pass through.
under_test tar -C one --use-compress-program='xz -T2' -xf tree.tar.xz
under_test tar -C two --use-compress-program='zstd -T2' -xf tree.tar.zst
for copy in one two; do
	expect_equal "the files' digest" "$wanted" \
		"$(cd "$copy/tree" && find . -type f -exec sha256sum {} + | sort | digest -)"
done
result "tree.tar" "$(digest tree.tar)"
result "tree.tar.xz" "$(digest tree.tar.xz)"
