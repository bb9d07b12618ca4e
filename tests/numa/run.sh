#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does hakmem hold on machines with several NUMA nodes, under an older kernel and both THP modes?
#
# Boots emulated machines (qemu without hardware virtualisation, Debian's cloud kernels, an
# initramfs made here) and runs in each the unit tests, the placement test and a few programs
# under LD_PRELOAD. Results come back over the serial console. A boot that panics or hangs is a
# failure that shows the end of its console.
#
# A job that fails is run a second time, and both runs are shown: a busy host stops emulated
# processors for longer than tests of decay and deadlines can wait for. Twice is a failure.
# So is a second time a machine whose kernel says that a processor is stuck (a fault of the
# emulation, seen before any program ran); the first time it is booted again.
#
# Exit status: 0 all passed, 1 something failed, 2 usage, 77 tools are missing.
set -euo pipefail

usage() {
	cat <<-END
	usage: run.sh BUILD_DIR [OPTION]...
	  --machine NAME   only machines whose name matches this shell pattern (may be repeated);
	                   the table near the end of this file has them
	  --min PERCENT    least share of blocks on their own node (default 99.5)
	  --preload FILE   this library instead of BUILD_DIR's libhakmem.so; no unit tests then
	  --preload none   the C library's malloc
	  --peers          measure the other allocators installed here anew; without it the table has the
	                   figures of peers.txt
	  --parallel N     machines at a time (default 2; 1 on a host with one CPU)
	  --only JOB       only jobs whose name matches this shell pattern (may be repeated)
	  --skip JOB       not the jobs whose name matches (may be repeated)
	  --short          fewer rounds of the placement test, no unit test in two machines that sees
	                   no difference between them, and not those that see none to the host
	  --kernel FILE    this kernel image instead of Debian's, for all machines
	  --timeout S      for one boot (default 1800)
	  --unit-timeout S for one unit test program (default 600)
	  --keep           keep the work folder (the consoles) and name it
	  --require        missing tools are a failure
	END
}

here=$(cd "$(dirname "$0")" && pwd)
source_dir=$(cd "$here/../.." && pwd)
build='' preload='' kernel='' min=99.5 boot_timeout=1800 unit_timeout=600
parallel=$(($(nproc) > 1 ? 2 : 1))
peers=false keep=false require=false short=
machines=() only=() skip=()

while (($#)); do
	case $1 in
	--machine | --min | --preload | --only | --skip | --kernel | --timeout | --unit-timeout | --parallel)
		(($# > 1)) || { usage >&2; exit 2; }
		case $1 in
		--machine) machines+=("$2") ;;
		--min) min=$2 ;;
		--preload) preload=$2 ;;
		--only) only+=("$2") ;;
		--skip) skip+=("$2") ;;
		--kernel) kernel=$2 ;;
		--timeout) boot_timeout=$2 ;;
		--unit-timeout) unit_timeout=$2 ;;
		--parallel) parallel=$2 ;;
		esac
		shift 2
		;;
	--peers) peers=true; shift ;;
	--keep) keep=true; shift ;;
	--short) short=--short; shift ;;
	--require) require=true; shift ;;
	--help) usage; exit 0 ;;
	-*) usage >&2; exit 2 ;;
	*) [[ -z $build ]] || { usage >&2; exit 2; }; build=$1; shift ;;
	esac
done
[[ -n $build && -d $build ]] || { usage >&2; exit 2; }
build=$(cd "$build" && pwd)
cache=$build/numa-cache
mkdir -p "$cache"

passed=0 failed=0 skipped=0 again=0
finish() {
	((again == 0)) || echo "$again jobs or machines were run a second time"
	echo "$passed passed, $failed failed, $skipped skipped"
	((failed == 0)) && exit "${1:-0}"
	exit 1
}
# What this host cannot do is skipped, unless the caller says that it must.
cannot() {
	echo "numa: $*"
	if $require; then failed=1; else skipped=1; fi
	finish 77
}

[[ $(uname -m) == x86_64 ]] || cannot 'the emulated machine is x86-64; this host is not'
for tool in qemu-system-x86_64 busybox cpio gzip ldd timeout numactl; do
	command -v "$tool" >/dev/null || cannot "$tool is not installed"
done
ldd "$(command -v busybox)" >/dev/null 2>&1 && cannot 'busybox is not static (package busybox-static)'

# ---- the kernel ----

# fetch_kernel FILE [SUITE]: Debian's, of the suite if one is named. False: $why says why not.
fetch_kernel() {
	local file=$1 suite=${2-} package folder apt=(-q -o APT::Sandbox::User=root)
	[[ -s $file ]] && return
	for tool in apt-get apt-cache dpkg-deb; do
		command -v "$tool" >/dev/null || { why="no $tool to fetch a kernel with; name one with --kernel"; return 1; }
	done
	folder=$(mktemp -d "$cache/fetch.XXXXXX")
	if [[ -n $suite ]]; then
		# apt's own lists and sources stay as they are
		mkdir -p "$folder"/{lists,archives}/partial
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" \
			>"$folder/sources.list"
		apt+=(-o "Dir::Etc::sourcelist=$folder/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$folder/lists"
			-o "Dir::Cache=$folder")
		timeout 120 apt-get "${apt[@]}" update >"$folder/log" 2>&1 || true # the next line notices
	fi
	package=$(apt-cache "${apt[@]}" depends linux-image-cloud-amd64 2>/dev/null |
		sed -n 's/^ *Depends: *\(linux-image-[0-9].*\)$/\1/p' | head -n 1)
	why=''
	if [[ -z $package ]]; then
		why="apt does not know linux-image-cloud-amd64 (${suite:-run apt-get update})"
	elif ! (cd "$folder" && timeout 300 apt-get "${apt[@]}" download "$package" &&
		dpkg-deb --fsys-tarfile ./*.deb | tar -x --wildcards './boot/vmlinuz-*') >"$folder/log" 2>&1; then
		why="$package could not be fetched: $(tail -n 1 "$folder/log")"
	else
		mv "$folder"/boot/vmlinuz-* "$file"
	fi
	rm -rf "$folder"
	[[ -z $why ]]
}
# wanted MACHINE: by --machine
wanted() {
	local pattern
	for pattern in "${machines[@]}"; do
		# shellcheck disable=SC2053
		[[ $1 != $pattern ]] || return 0
	done
	((${#machines[@]} == 0))
}
newer_kernel=$kernel
if [[ -z $kernel ]]; then
	kernel=$cache/vmlinuz newer_kernel=$cache/vmlinuz-newer
	fetch_kernel "$kernel" || cannot "$why"
	# shellcheck disable=SC1091
	suite=$(. /etc/os-release && echo "${VERSION_CODENAME-}-backports")
	if wanted newer-always && ! fetch_kernel "$newer_kernel" "$suite"; then
		echo "numa: newer-always: skipped: $why"
		skipped=$((skipped + 1)) newer_kernel=''
	fi
fi
[[ -r $kernel ]] || cannot "$kernel cannot be read"

# ---- the initramfs ----

work=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-numa.XXXXXX")
# shellcheck disable=SC2317 # called by the trap
clean() {
	((${#running[@]} == 0)) || kill "${!running[@]}" 2>/dev/null || true
	if $keep; then echo "numa: kept $work"; else rm -rf "$work"; fi
}
declare -A running=() # names of machines and when they were started, by the process id of qemu's guard
trap clean EXIT
trap 'exit 130' INT TERM
root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,tmp,jobs,opt/bin,src/tests}
touch "$work/jobs"

is_elf() {
	[[ $(head -c 4 "$1" 2>/dev/null | tr -d '\0') == $'\x7fELF' ]]
}

# add FILE [DEST]: the file and the libraries that ldd names, those under the paths it names.
add() {
	local file=$1 dest=${2:-$1} lib
	mkdir -p "$root$(dirname "$dest")"
	cp -L "$file" "$root$dest"
	LD_LIBRARY_PATH=$lib_path ldd "$file" 2>/dev/null |
		sed -n -e 's/^.* => \(\/[^ ]*\) (.*$/\1/p' -e 's/^[[:space:]]*\(\/[^ ]*\) (.*$/\1/p' |
		while read -r lib; do
			[[ -e $root$lib ]] && continue
			mkdir -p "$root$(dirname "$lib")"
			cp -L "$lib" "$root$lib"
		done
}

# job NAME SECONDS quiet|show MACHINES COMMAND...: one result in each machine whose name matches the
# pattern. Exit status 77 is a skip; the output is shown when the job fails, or always.
job() {
	local name=$1 seconds=$2 how=$3 where=$4 pattern
	shift 4
	if ((${#only[@]})); then
		for pattern in "${only[@]}"; do
			# shellcheck disable=SC2053
			[[ $name == $pattern ]] && pattern= && break
		done
		[[ -z $pattern ]] || return 0
	fi
	for pattern in "${skip[@]}"; do
		# shellcheck disable=SC2053
		[[ $name != $pattern ]] || return 0
	done
	printf '%s\n' "$*" >"$root/jobs/$name"
	printf '%s %s %s %s\n' "$name" "$seconds" "$how" "$where" >>"$work/jobs"
}

lib_path=$build/.libs:$build/src/.libs:$build/src/topo/.libs
library=''
if [[ -z $preload ]]; then
	for file in "$build"/{,src/}.libs/libhakmem.so "$build"/libhakmem.so; do
		[[ -z $library && -e $file ]] && library=$file
	done
	if [[ -z $library ]]; then
		echo "numa: no libhakmem.so in $build"
		failed=1
		finish
	fi
elif [[ $preload != none ]]; then
	[[ -r $preload ]] || { echo "numa: $preload cannot be read" >&2; exit 2; }
	library=$preload
fi

under=''
if [[ -n $library ]]; then
	inside=/opt/lib/$(basename "$library")
	add "$library" "$inside"
	under="LD_PRELOAD=$inside"
	# Its second library is looked for in its own folder.
	topo=$(dirname "$library")/libhakmem-topo.so
	[[ ! -e $topo ]] || add "$topo" /opt/lib/libhakmem-topo.so
fi

cp "$(command -v busybox)" "$root/bin/busybox"
for program in bash ls sort numactl; do
	add "$(command -v "$program")" "/opt/bin/$program"
done
for program in placement policy spill places hotplug container cgroup; do
	${CC:-cc} -std=c11 -O2 -g -fno-builtin -Wall -Wextra -pthread -I"$source_dir/include" \
		-o "$work/$program" "$here/$program.c"
	add "$work/$program" "/opt/bin/$program"
done

# A machine that came up other than asked would make every other result worthless.
job machine 20 quiet '*' /bin/machine-check

# The unit tests' own machines are made up: here it is the kernel and the number of nodes that differ.
units='@(1node-always|2nodes-madvise)'
# ... to these also the mode of THP
by_kernel='test_@(holes|huge|price|reclaim|touched)'
# ... and to these neither, much: they are left out of a short run
by_neither='test_@(hardened|topo)'
if [[ -z $preload ]]; then
	[[ ! -d $source_dir/tests/topologies ]] || cp -r "$source_dir/tests/topologies" "$root/src/tests/"
	found=0
	for file in "$build"/tests/test_*; do
		name=$(basename "$file")
		[[ $name != *.* && -f $file && -x $file ]] || continue
		# libtool leaves a shell wrapper; the program itself stands in .libs
		for real in "$build/tests/.libs/$name" "$build/tests/.libs/lt-$name" "$file"; do
			is_elf "$real" && break
		done
		is_elf "$real" || continue
		add "$real" "/opt/tests/$name"
		where=$units
		# shellcheck disable=SC2053
		[[ -z $short || $name == $by_kernel ]] || where=2nodes-madvise
		# shellcheck disable=SC2053
		[[ -z $short || $name != $by_neither ]] || continue
		job "$name" "$unit_timeout" quiet "$where" "cd /tmp && srcdir=/src LD_LIBRARY_PATH=/opt/lib CK_TIMEOUT_MULTIPLIER=10 /opt/tests/$name"
		found=$((found + 1))
	done
	if ((found == 0)); then
		echo "numa: no unit test programs in $build/tests (make check builds them)"
		failed=$((failed + 1))
	fi
fi

several='[248]nodes*' # machines with several nodes that all have memory and CPUs
job placement 1200 show "$several" "$under placement $short --min $min"
job placement-together 1200 quiet '2nodes-*' "$under placement $short --brief --together"
# In a container nothing is printed about what is denied there.
job container-placement 1200 show '4nodes*' "$under container placement $short --min 99 2>/tmp/said; status=\$?
	cat /tmp/said; [ ! -s /tmp/said ] && exit \$status"

# policy NAME MACHINES COMMAND...: one row of the table in doc/numa.md, which has each of these names once
# (tests/tools/documented.sh). A policy that is set later may miss what the thread had cached: 1 MiB of 64.
policy() {
	local name=$1 where=$2
	shift 2
	job "policy-$name" 400 quiet "$where" "share=\$(bc -l <<<\"100 / \$hak_nodes\") all=
		for ((n = 0; n < hak_nodes; n++)); do all+=\" \$n=\$share\"; done
		$*"
}
policy none '[24]nodes*' "$under policy --on 1 1=100"
policy membind '[24]nodes*' "$under numactl --membind=1 policy --on 0 1=100"
policy membind-two '4nodes*' "$under numactl --membind=0,1 policy --on 0 0=100 &&
	$under numactl --membind=0,1 policy --on 1 1=100"
policy preferred '[24]nodes*' "$under numactl --preferred=1 policy --on 0 1=100"
# node 1 is nearer to node 2 than node 0 is
policy preferred-many '4nodes*' "$under numactl --preferred-many=0,1 policy --on 0 0=100 &&
	$under numactl --preferred-many=0,1 policy --on 2 1=100"
policy interleave '[24]nodes*' "$under numactl --interleave=all policy --on 1 --within 2 \$all"
policy localalloc '[24]nodes*' "$under numactl --localalloc policy --on 1 1=100"
cpuset="mount -t cgroup2 none /sys/fs/cgroup && echo +cpuset >/sys/fs/cgroup/cgroup.subtree_control &&
	mkdir -p /sys/fs/cgroup/part && echo 1 >/sys/fs/cgroup/part/cpuset.mems"
policy cpuset '[24]nodes*' "$cpuset && echo \$\$ >/sys/fs/cgroup/part/cgroup.procs && $under policy --on 0 1=100
	status=\$?; echo \$\$ >/sys/fs/cgroup/cgroup.procs; umount /sys/fs/cgroup; exit \$status"
policy set-cpuset '[24]nodes*' "$cpuset && $under policy --on 0 --cgroup /sys/fs/cgroup/part 1=100
	status=\$?; umount /sys/fs/cgroup; exit \$status"
policy set-bind '[24]nodes*' "$under policy --on 0 --set bind:1 --within 1.5,0.5 1=100"
policy set-preferred '4nodes*' "$under policy --on 0 --set preferred:1 --within 1.5,0.5 1=100"
policy set-preferred-many '4nodes*' "$under policy --on 2 --set preferred-many:0,1 --within 1.5,0.5 1=100"
policy set-interleave '4nodes*' "$under policy --on 0 --set interleave:0,1 --within 3,2 0=50 1=50"
policy set-local '4nodes*' "$under numactl --membind=0 policy --on 1 --set local --within 1.5,0.5 1=100"
# Linux 6.9
weights="w=/sys/kernel/mm/mempolicy/weighted_interleave; [ ! -e \$w ] || { echo 3 >\$w/node0; echo 1 >\$w/node1; }"
policy weighted 'newer*' "$weights; $under policy --before weighted-interleave:0,1 --on 1 --within 2 0=75 1=25"
policy set-weighted 'newer*' "$weights; $under policy --on 1 --set weighted-interleave:0,1 --within 3,2 0=75 1=25"
policy thread '[24]nodes*' "$under policy --on 0 --thread --set bind:1 --within 1.5,0.5 1=100"
policy thread-interleave '4nodes*' "$under policy --on 0 --thread --set interleave:0,1 --within 3,2 0=50 1=50"
# In a container, where hakmem may ask for nothing and bind nothing. Filters stay with what is executed.
policy container-membind '4nodes*' "numactl --membind=1 env $under container policy --on 0 1=100"
policy container-preferred '4nodes*' "numactl --preferred=1 env $under container policy --on 0 1=100"
# A service that is killed for what is not on its list: nothing of it is called unless HAKMEM_BIND=on says so.
policy service '@(2nodes-*|4nodes*)' "numactl --cpunodebind=1 env $under HAKMEM_DECAY_MS=100 container --service policy 1=100"
policy service-told '2nodes-*' "numactl --cpunodebind=1 env $under HAKMEM_BIND=on container --service policy 1=100
	[ \$? = 159 ]" # SIGSYS

# Node 1 is nearer to the memory-only node 3 than to node 2: by distance alone 3 would come before 2.
job spill 300 show 'small*' "$under spill --on 1 1,0,2,3"
# Blocks over 1 MiB need Linux 6.10 for that; in a container nothing may have a policy.
job spill-huge 300 show 'newer*' "$under spill --huge --on 1 1,0,2,3"
job spill-huge-older 300 show 'small*' "$under spill --huge --on 1 1,0,3,2"
job container-spill 300 show 'small*' "$under container spill --on 1 1,0,3,2"
# hakmem.h's places. Under a policy of the user's as without.
if [[ -n $library ]]; then
	job places 400 quiet '@(2nodes-*|4nodes*)' "$under numactl --cpunodebind=0 places 0 &&
		$under numactl --cpunodebind=0 --membind=0 places 0"
	job container-places 200 quiet '2nodes-*' "numactl --cpunodebind=0 env $under container places denied"
	job places-capacity 400 quiet '*+memory*' "$under numactl --cpunodebind=0 places 2"
	# Kinds by what the kernel says of bandwidths: node 2 is slow, node 3 fast.
	job places-kinds 400 quiet 'hbm*' "$under numactl --cpunodebind=0 places 2 3"
fi
# CPUs without memory: the pool of the nearest node that has some.
job policy-without-memory 200 show 'cpus-only*' "$under policy --on 3 2=100"
# Then that memory comes, goes and comes back, and a CPU too, under a running program.
[[ -z $library ]] || job hotplug 300 show 'cpus-only*' "$under hotplug 3 2 1"

# The limits of a cgroup.
[[ -z $library ]] || job cgroup 300 show '1node-*' "mount -t cgroup2 none /sys/fs/cgroup && $under cgroup; status=\$?
	umount /sys/fs/cgroup; exit \$status"

# The suite's own look at placement, where `make bench` has built it.
if [[ -n $library && -x $build/bench/micro/nodes ]]; then
	add "$build/bench/micro/nodes" /opt/bench/nodes
	cp "$source_dir/bench/numa" "$root/opt/bench/numa"
	job bench-numa 900 show '4nodes*' "bash /opt/bench/numa --quick --only '^nodes\$' --programs /opt/bench hakmem=$inside glibc="
fi
if [[ -n $library ]]; then
	job smoke-preloaded 20 quiet '*' "$under bash -c 'while read -r line; do
		[[ \$line == *$inside ]] && exit 0; done </proc/self/maps; exit 1'"
fi
job smoke-ls 30 quiet '*' "ls -lR /opt /bin >/tmp/plain && $under ls -lR /opt /bin >/tmp/under &&
	cmp /tmp/plain /tmp/under && [ -s /tmp/under ]"
job smoke-sort 120 quiet '*' "seq 200000 | sort -k 1.2 >/tmp/plain &&
	seq 200000 | $under sort --parallel=4 -S 8M -k 1.2 >/tmp/under && cmp /tmp/plain /tmp/under"
job smoke-bash 120 quiet '*' "[ \"\$($under bash -c 'sum=0
	for i in {1..200}; do (( sum += \$(echo \$i) )); done; echo \$sum')\" = 20100 ]"
job smoke-numactl 60 quiet '*' "numactl --hardware | grep -v free >/tmp/plain &&
	$under numactl --hardware | grep -v free >/tmp/under && cmp /tmp/plain /tmp/under"
job smoke-policy 120 quiet '*' "seq 100000 | sort -r >/tmp/plain &&
	seq 100000 | $under numactl --interleave=all sort -r >/tmp/under && cmp /tmp/plain /tmp/under &&
	seq 100000 | $under numactl --membind=0 sort -r >/tmp/under && cmp /tmp/plain /tmp/under"

if $peers; then
	job peer-glibc 400 quiet 4nodes-always "placement --brief"
	for peer in mimalloc.so.2 jemalloc.so.2 tcmalloc_minimal.so.4; do
		file=/usr/lib/x86_64-linux-gnu/lib$peer
		[[ -e $file ]] || continue
		add "$file"
		job "peer-${peer%%.*}" 400 quiet 4nodes-always "LD_PRELOAD=$file placement --brief"
	done
fi
[[ -s $work/jobs ]] || { echo 'numa: no job of that name' >&2; exit 2; }
cp "$work/jobs" "$root/jobs.list"

cat >"$root/bin/machine-check" <<'END'
#!/bin/busybox sh
# hak_* come from the kernel's command line.
fail() { echo "machine: $*"; exit 1; }
set -- /sys/devices/system/node/node[0-9]*
[ "$#" = "$hak_nodes" ] || fail "$# nodes instead of $hak_nodes"
with=0
for node; do [ -z "$(cat "$node/cpulist")" ] || with=$((with + 1)); done
[ "$with" = "$hak_cpu_nodes" ] || fail "$with nodes with CPUs instead of $hak_cpu_nodes"
[ "$(cat /sys/devices/system/node/node0/distance | tr ' ' ,)" = "$hak_distance" ] ||
	fail "distances from node 0: $(cat /sys/devices/system/node/node0/distance), not $hak_distance"
grep -q "\[$hak_thp\]" /sys/kernel/mm/transparent_hugepage/enabled ||
	fail "THP is $(cat /sys/kernel/mm/transparent_hugepage/enabled), not $hak_thp"
END
cat >"$root/init" <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
# Not busybox's own shell: it prefers its applets to the programs under test.
export PATH=/opt/bin:/bin HOME=/tmp LC_ALL=C TMPDIR=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
ip link set lo up 2>/dev/null
count=0
echo # the firmware left its last line open
while read -r name seconds how where; do
	bash -c 'shopt -s extglob; [[ $hak_machine == $1 ]]' - "$where" || continue
	read -r begin _ </proc/uptime
	for try in first second; do
		timeout -s KILL "$seconds" bash "/jobs/$name" </dev/null >/tmp/job.log 2>&1
		status=$?
		case $status in
		0) result=pass ;;
		77) result=skip ;;
		137) result=fail; echo "killed, perhaps for taking more than $seconds s" >>/tmp/job.log ;;
		*) result=fail; echo "exit status $status" >>/tmp/job.log ;;
		esac
		if [ "$how" = show ] || [ $result = fail ]; then
			tail -n 60 /tmp/job.log | sed "s/^/@| /"
		fi
		[ $result = fail ] || break
		echo "@| $name failed at the $try try"
		if [ $try = first ]; then echo "@! $name"; fi
	done
	read -r end _ </proc/uptime
	sed -n "s/^\([a-z-]*\) *all /@= $name \1 /p" /tmp/job.log
	echo "@@ $result $name $((${end%.*} - ${begin%.*}))"
	count=$((count + 1))
done </jobs.list
echo "@@ done $count"
poweroff -f
END
chmod +x "$root/init" "$root/bin/machine-check"
(cd "$root" && find . -print0 | cpio --quiet -0 -o -H newc | gzip -1) >"$work/initramfs.gz"

# ---- the machines ----

# distance FROM TO CPU_NODES: pairs are near, the rest farther, a memory-only node farthest from
# node 0. Uneven on purpose: an order by index would not be the order by distance.
distance() {
	local from=$1 to=$2 with_cpus=$3 low high
	if ((from < to)); then low=$from high=$to; else low=$to high=$from; fi
	if ((low == high)); then echo 10
	elif ((high >= with_cpus)); then echo $((low == 0 ? 34 : 17))
	elif ((low / 2 == high / 2)); then echo 16
	else echo $((20 + 2 * ((low + high) % 3)))
	fi
}

# emulate CONSOLE ARGUMENT...: qemu, and once more if a processor was stuck. In a process of its own, which passes
# its end on to qemu.
emulate() {
	local console=$1 status=0 try
	shift
	trap 'kill "$!"; exit 143' TERM INT
	for try in first second; do
		timeout -k 5 "$boot_timeout" qemu-system-x86_64 "$@" </dev/null >"$console" 2>&1 &
		status=0
		wait "$!" || status=$?
		if [[ $try == second ]] || grep -aq '^@@ done' "$console" || ! grep -aq 'soft lockup' "$console"; then
			break
		fi
		cp "$console" "$console.first"
	done
	exit "$status"
}

# boot NAME THP CPUS:MIB[+MIB][@GIB]...: starts a machine with these nodes; those without CPUs come last. Every
# node with CPUs has as many as the first. What stands behind a plus is there and offline; behind an @ the
# GiB a second that the firmware (HMAT) says it has from its own CPUs, or those of node 0.
boot() {
	local name=$1 thp=$2 console=$work/$1.console
	shift 2
	local count=$# with_cpus=0 per_node=${1%:*} all_mib=0 cpu=0 n=0 to row='' image=$kernel
	[[ $name != newer-* ]] || image=$newer_kernel
	local args=() node memory plugged_mib=0 gib first attributes=()

	for node; do
		if ((${node%:*})); then with_cpus=$((with_cpus + 1)); fi
	done
	for node; do
		memory=
		if [[ $node == *@* ]]; then
			gib=${node#*@} node=${node%@*}
			first=$((${node%:*} ? n : 0))
			memory=,initiator=$first
			attributes+=(-numa "hmat-lb,initiator=$first,target=$n,hierarchy=memory,data-type=access-latency,latency=100"
				-numa "hmat-lb,initiator=$first,target=$n,hierarchy=memory,data-type=access-bandwidth,bandwidth=${gib}G")
		fi
		if [[ $node == *+* ]]; then
			args+=(-object "memory-backend-ram,id=d$n,size=${node#*+}M" -device "pc-dimm,id=dimm$n,memdev=d$n,node=$n")
			plugged_mib=$((plugged_mib + ${node#*+}))
			node=${node%+*}
		fi
		if ((${node#*:})); then
			args+=(-object "memory-backend-ram,id=m$n,size=${node#*:}M")
			memory+=,memdev=m$n
			all_mib=$((all_mib + ${node#*:}))
		fi
		if ((${node%:*})); then
			args+=(-numa "node,nodeid=$n,cpus=$cpu-$((cpu + per_node - 1))$memory")
			cpu=$((cpu + per_node))
		else
			args+=(-numa "node,nodeid=$n$memory")
		fi
		n=$((n + 1))
	done
	for ((n = 0; n < count; n++)); do
		for ((to = 0; to < count; to++)); do
			args+=(-numa "dist,src=$n,dst=$to,val=$(distance "$n" "$to" "$with_cpus")")
		done
		row+=${row:+,}$(distance 0 "$n" "$with_cpus")
	done
	((${#attributes[@]} == 0)) || args+=(-machine hmat=on "${attributes[@]}")

	# qemu 7.2's cmpxchg16b leaves wrong flags, and Linux 6.12 panics
	emulate "$console" -accel tcg,thread=multi -cpu max,-cx16 \
		-smp "$cpu,sockets=$with_cpus,cores=$per_node,threads=1" \
		-m "$all_mib,slots=8,maxmem=$((all_mib + plugged_mib + 1024))M" "${args[@]}" \
		-kernel "$image" -initrd "$work/initramfs.gz" -nographic -no-reboot -nic none \
		-append "console=ttyS0 quiet panic=-1 watchdog_thresh=60 softlockup_panic=1 no_timer_check memhp_default_state=offline numa_balancing=disable transparent_hugepage=$thp \
hak_machine=$name hak_nodes=$count hak_cpu_nodes=$with_cpus hak_distance=$row hak_thp=$thp" &
	# Waited for, not called: a signal to this script must not be held up by a running machine.
	running[$!]="$name $SECONDS"
}

# Waits for one of the running machines, and counts and prints its results.
await() {
	local pid name begin console status=0 results=0 told='' line word job seconds

	wait -n -p pid "${!running[@]}" || status=$?
	read -r name begin <<<"${running[$pid]}"
	unset "running[$pid]"
	console=$work/$name.console
	while IFS= read -r line; do
		line=${line%$'\r'}
		case $line in
		'@| '*) printf '    %s\n' "${line#@| }" ;;
		'@= '*) echo "$name ${line#@= }" >>"$work/shares" ;;
		'@! '*) again=$((again + 1)) ;;
		'@@ done '*) told=${line#@@ done } ;;
		'@@ '*)
			read -r _ word job seconds <<<"$line"
			results=$((results + 1))
			case $word in
			pass) passed=$((passed + 1)) ;;
			skip) skipped=$((skipped + 1)) ;;
			*) failed=$((failed + 1)) ;;
			esac
			echo "$name: $word $job ($seconds s)"
			;;
		esac
	done < <(tr -d '\0' <"$console")
	if [[ -e $console.first ]]; then
		again=$((again + 1))
		echo "$name: booted a second time; the first console's last lines:"
		tr -d '\0\r' <"$console.first" | tail -n 10 | sed 's/^/    /'
	fi
	echo "$name: $results results in $((SECONDS - begin)) s"
	if [[ $told != "$results" ]]; then
		failed=$((failed + 1))
		if ((status == 124 || status == 137)); then
			echo "$name: fail: no end within $boot_timeout s; the console's last lines:"
		else
			echo "$name: fail: died after $results results (qemu: $status); the console's last lines:"
		fi
		tr -d '\0\r' <"$console" | tail -n 40 | sed 's/^/    /'
	fi
}

# machine NAME THP CPUS:MIB...: boots it if it is wanted.
machine() {
	wanted "$1" || return 0
	((${#running[@]} < parallel)) || await
	boot "$@"
}
# Those that take longest come first.
machine 4nodes-always always 1:768 1:768 1:768 1:768
machine 2nodes-madvise madvise 2:768 2:768
machine 8nodes-always always 1:448 1:448 1:448 1:448 1:448 1:448 1:448 1:448
machine 1node-always always 4:2048
machine 2nodes+memory-always always 2:768 2:768 0:768
machine small-always always 1:768 1:192 1:256 0:512
machine cpus-only-always always 1:768 1:768 1:768 1:0+256
machine hbm-always always 1:768@100 1:768@100 0:512@30 0:512@400
machine 1node-madvise madvise 4:2048
# What Debian's stable kernel does not know: weighted interleaving; policies that NUMA balancing respects.
[[ -z $newer_kernel ]] || machine newer-always always 1:448 1:320 1:256 0:256
while ((${#running[@]})); do await; done

# share JOB SITUATION: the three figures; what was not measured now is peers.txt's.
share() { cat "$work/shares" "$here/peers.txt" | sed -n "s/^4nodes-always $1 $2  *//p" | head -n 1; }
if [[ -e $work/shares ]] && grep -q '^4nodes-always ' "$work/shares"; then
	echo 'blocks on their own node, 4 nodes, THP always, %: of 16 to 1,024 bytes, 2 to 50 KiB, 53 to 512 KiB'
	jobs=()
	for job in placement container-placement peer-{glibc,mimalloc,jemalloc,tcmalloc_minimal}; do
		[[ -z $(share "$job" local) ]] || jobs+=("$job")
	done
	printf '  %-12s' ''
	printf ' %21s' "${jobs[@]#peer-}"
	printf '\n'
	for situation in local consumer moved sudden turnover stream touch touch-reused; do
		printf '  %-12s' "$situation"
		for job in "${jobs[@]}"; do
			# shellcheck disable=SC2046
			printf ' %21s' "$(printf '%7s' $(share "$job" "$situation"))"
		done
		printf '\n'
	done
fi
finish
