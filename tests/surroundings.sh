#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Programs where the system lacks something: surroundings.sh LIB
# No threads to be had, no descriptors, no /proc, no /sys, nothing writable, a bare chroot, and
# filters that refuse or kill for calls that malloc can do without. In each, limits.c takes memory
# until there is 200 MiB of it and gives it back, four times over; contents are checked. And a program
# that closes all descriptors again and again: its own files are left alone, memory still goes back.
# And beside a library whose madvise and munmap allocate.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lib=$(realpath "${1:?usage: surroundings.sh LIB}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-surroundings.XXXXXX")
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
flags=(-std=gnu11 -O1 -g -Wall -Wextra -D_GNU_SOURCE -pthread -fno-builtin)
"${CC:-gcc}" "${flags[@]}" -o "$dir/limits" "$here/limits.c"
"${CC:-gcc}" "${flags[@]}" -o "$dir/surroundings" "$here/surroundings.c"
"${CC:-gcc}" "${flags[@]}" -fPIC -shared -o "$dir/hook.so" "$here/surroundings_hook.c"
cp "$lib" "$dir/lib.so" # readable for another user, and in a chroot

# shellcheck source=tests/results.sh
. "$here/results.sh"
check() { # NAME COMMAND ...
	local name=$1 status=0
	shift
	timeout 600 "$@" >"$dir/log" 2>&1 || status=$?
	result "$name" "$status"
}
preload=(env LD_PRELOAD="$dir/lib.so")
work=("${preload[@]}" "$dir/limits" until $((200 << 20)))

for errno in 1 38; do # EPERM, as docker; ENOSYS, as an older kernel
	check "calls refused with errno $errno" "$dir/surroundings" deny $errno /usr/bin/env LD_PRELOAD="$dir/lib.so" \
		"$dir/limits" until $((200 << 20))
done
check "a filter that kills" "${preload[@]}" "$dir/surroundings" strict
check "RLIMIT_NOFILE 3" sh -c 'exec <&- && ulimit -n 3 && exec "$@"' sh "${work[@]}"
check "no descriptors at all" "${preload[@]}" sh -c 'exec "$@" <&- >&- 2>&-' sh "$dir/limits" until $((200 << 20))
for engine in auto uring vector loop; do
	check "all descriptors closed, $engine" "${preload[@]}" HAKMEM_DECAY_MS=10 HAKMEM_RECLAIM=$engine "$dir/surroundings" closes 500
done
# shellcheck disable=SC2016 # another shell's
check "the reclaimer's own message" sh -c 'said=$1; shift; "$@" 2>"$said"; [ $? = 134 ] && grep -q "double free" "$said"' sh \
	"$dir/said" "${preload[@]}" HAKMEM_DECAY_MS=100 "$dir/surroundings" fault
hooked=(env LD_PRELOAD="$dir/lib.so $dir/hook.so" HAKMEM_DECAY_MS=20 "$dir/limits" until)
check "a hook on madvise that allocates" "${hooked[@]}" $((200 << 20))
check "a hook on madvise, slabs made ready" env HAKMEM_PREWARM=4096:4000,70000:100 HAKMEM_RECLAIM=off \
	"${hooked[@]}" $((200 << 20))
check "a hook on madvise, ulimit -v" bash -c 'ulimit -v 300000 && exec "$@"' bash "${hooked[@]}" $((600 << 20))
if [ "$(id -u)" != 0 ]; then
	check "RLIMIT_NPROC 0" bash -c 'ulimit -u 0 && exec "$@"' sh "${work[@]}"
elif command -v setpriv >/dev/null; then
	check "RLIMIT_NPROC 0" bash -c 'ulimit -u 0 && exec "$@"' sh \
		setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all "${work[@]}"
else
	skipped=$((skipped + 1))
	echo "RLIMIT_NPROC 0: skipped: root has no such limit, and there is no setpriv"
fi

# in namespaces of its own, if that is allowed
# shellcheck disable=SC2016 # another shell's
root='mkdir -p root/lib64 root/lib && cp lib.so limits root &&
	ldd limits lib.so | grep -o "/[^ ]*so[^ ]*" | sort -u | while read -r f; do mkdir -p "root$(dirname "$f")"; cp -L "$f" "root$f"; done'
(cd "$dir" && sh -c "$root")
spaces=(unshare --mount)
[ "$(id -u)" = 0 ] || spaces+=(--map-root-user)
hidden() { # NAME, what is done to the mounts
	check "$1" "${spaces[@]}" sh -c "{ $2; } || { echo 'no mounts allowed here'; exit 77; }"'; exec "$@"' sh "${work[@]}"
}
if "${spaces[@]}" true 2>/dev/null; then
	hidden "no /sys" 'mount -t tmpfs none /sys'
	hidden "no /proc" 'mount -t tmpfs none /proc'
	hidden "neither, and all read-only" 'mount -t tmpfs none /proc && mount -t tmpfs none /sys && mount -o remount,bind,ro /'
	check "chroot with nothing in it" "${spaces[@]}" chroot "$dir/root" /lib64/ld-linux-x86-64.so.2 --preload /lib.so \
		/limits until $((200 << 20))
else
	skipped=$((skipped + 4))
	echo "no /sys, no /proc, read-only, chroot: skipped: no mount namespaces here"
fi
summary
