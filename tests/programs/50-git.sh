#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does git keep a history through threaded repacks, gc, clone and fsck?
. "${BASH_SOURCE%/*}/lib.sh"
packages git python3
commands git "$python"
begin

export GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
git() {
	under_test git "$@"
}

git init -q --bare --initial-branch=main origin.git
"$python" -I "$source_dir/src/git_history.py" | git -C origin.git fast-import --quiet
git -C origin.git config pack.threads 2
git -C origin.git config gc.auto 0
tip=$(git -C origin.git rev-parse refs/heads/main)

git -C origin.git repack -a -d -f -q --depth=30 --window=20
git -C origin.git gc --quiet --prune=now
git -C origin.git fsck --full --strict >fsck.log 2>&1
# --no-local: through upload-pack and index-pack, as over a network.
git clone -q --no-local origin.git clone
expect_equal "the clone's tip" "$tip" "$(git -C clone rev-parse HEAD)"
git -C clone fsck --full --strict >>fsck.log 2>&1
git -C clone log -p --stat >log.out
git -C clone blame -w README >blame.out
git -C clone archive --format=tar HEAD >tree.tar
for branch in one two; do
	git -C clone checkout -q -b "$branch" HEAD~50
	echo "$branch" >"clone/$branch"
	git -C clone add "$branch"
	git -C clone -c user.name=A -c user.email=a@example.org commit -q --no-gpg-sign \
		--date='2020-01-01 00:00:00 +0000' -m "$branch"
done
git -C clone -c user.name=A -c user.email=a@example.org merge -q -m merge main one >merge.log 2>&1
git -C clone diff --stat main >diff.out

result "tip" "$tip"
result "log" "$(digest log.out)"
result "blame" "$(digest blame.out)"
result "tree" "$(digest tree.tar)"
result "merged" "$(digest diff.out)"
