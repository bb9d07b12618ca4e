#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2016 # the stub program expands its own
# Every command in the documentation runs, or stands below with what runs it instead. `program` and PID
# stand for something that is there; libhakmem.so is the one under test.
# shellcheck source=tests/tools/lib.sh
. "$(dirname "$0")/lib.sh" "$1"
top=$here/../..

# doc/design.md has drawings where others have commands
documents=(README.md SECURITY.md CONTRIBUTING.md man/hakmem.{1,3,7} bench/README.md models/README.md)
for file in "$top"/doc/*.md; do
	[ "${file##*/}" = design.md ] || documents+=("doc/${file##*/}")
done

# Commands are indented by four spaces, in a list by six; what follows three spaces is a remark. A block
# that begins with a message of the library is what one sees, not what one types.
commands_of() {
	case $1 in
	*.[137]) sed -n '/^\.EX/,/^\.EE/ { s/\\-/-/g; /^hakmem [a-z]/p }' "$1" ;;
	*)
		awk '!/^    / { shown = 0; next } /^ +hakmem: / { shown = 1 } !shown && /^(    |      )[A-Za-z.\/]/' "$1" |
			sed -e 's/^ *//' -e 's/   .*//'
		;;
	esac
}

# Why a command is not run here, and what runs it; each line is for one that there is.
elsewhere=(
	'./quickstart|installs packages; by hand in a fresh clone before a release'
	'./quickstart -- *|as above'
	'./quickstart test*|this is part of it'
	'./configure && make && make install *|make distcheck, and install.sh beside this, without root'
	'./bootstrap && *|every build in CI begins so'
	'cc program.c *|install.sh beside this, word for word'
	'make bench|bench/selftest, a step of CI, for this and the next two'
	'bench/run*|measures for minutes to hours'
	'bench/numa*|needs a machine with several nodes'
	'tests/numa/run.sh *|needs a build and emulates machines: the step numa of CI'
	'bpftrace *|needs root and uprobes: probes.sh beside this, where there are both'
	'perf *|needs root and uprobes, and leaves events behind; by hand'
	'gdb -p *|gdb.sh beside this; where the tools are not installed gdb.py is elsewhere'
	'make reclaim-study|measures for minutes; by hand'
)
used=()
is_elsewhere() { # COMMAND
	local entry
	for entry in "${elsewhere[@]}"; do
		# shellcheck disable=SC2053 # a pattern
		[[ $1 == ${entry%|*} ]] && used+=("$entry") && return
	done
	return 1
}

# COMMAND: its first word, and that of what it runs
installed() {
	local words
	words=$(sed -E 's/^([A-Z_]+=[^ ]* )*//' <<<"$1")
	PATH=$work/bin:$PATH type "${words%% *}" >/dev/null 2>&1 || return 1
	[[ $words != *' -- '* ]] || installed "${words#* -- }"
}

mkdir -p "$work/bin" "$work/there"
ln -s "$hakmem" "$work/bin/hakmem"
# long and large enough for all that there is to see of a program
printf '#!/bin/bash\nexec %q 0.2\n' "$build/tests/tools/learns" >"$work/bin/program"
# what starts ranks: their options go by, the command runs
cat >"$work/bin/srun" <<'END'
#!/bin/bash
while [[ $1 == -* ]]; do
	case $1 in
	-x) [[ $2 == *=* ]] && export "${2?}"; shift 2 ;;
	-genv) export "$2=$3"; shift 3 ;;
	-n) shift 2 ;;
	--export=ALL,*) export "${1#*,}"; shift ;;
	--cpu-bind=*) shift ;;
	*) exit 2 ;;
	esac
done
SLURM_PROCID=0 exec "$@"
END
ln -s srun "$work/bin/mpirun"
ln -s srun "$work/bin/mpiexec"
chmod +x "$work/bin/program" "$work/bin/srun"

runs() {
	local command=$1 code=0
	command=${command//PID/$pid}
	command=$(sed -E "s#(LD_PRELOAD[= ])[^ ]*libhakmem\.so(\.0)?#\\1$lib#" <<<"$command")
	(cd "$work/there" && PATH=$work/bin:$PATH timeout 300 bash -c "$command" >"$work/out" 2>"$work/err" </dev/null) 8>&- || code=$?
	[ $code = 0 ] || { [ $code = 1 ] && [ "$command" = 'hakmem doctor' ]; } || say "exit code $code: $1: $(cat "$work/err")" || return 1
	# the dynamic linker only warns
	! grep -q 'cannot be preloaded' "$work/err" || say "not preloaded: $1"
}

start "$hakmem" run "$target"
for file in "${documents[@]}"; do
	while read -r command; do
		if is_elsewhere "$command"; then
			continue
		elif ! installed "$command"; then
			skipped=$((skipped + 1))
			echo "skipped: not installed: $command" >&2
		elif runs "$command"; then
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
			echo "FAILED: $file" >&2
		fi
	done < <(commands_of "$top/$file")
done
stop

the_slurm_job_runs() {
	cp "$work/bin/program" "$work/there/"
	(cd "$work/there" && PATH=$work/bin:$PATH bash "$top/examples/slurm.sh" >"$work/out" 2>&1) || say "$(cat "$work/out")" || return 1
	grep -q '"library":' "$work/there/stats-0.jsonl" || say "no statistics of rank 0"
}

the_drop_in_is_sound() {
	command -v systemd-analyze >/dev/null || skip "no systemd-analyze"
	mkdir -p "$work/units/program.service.d"
	printf '[Service]\nExecStart=/bin/true\n' >"$work/units/program.service"
	cp "$top/examples/hakmem.conf" "$work/units/program.service.d/"
	SYSTEMD_UNIT_PATH=$work/units: systemd-analyze verify --man=no "$work/units/program.service" >"$work/out" 2>&1
	[ ! -s "$work/out" ] || say "$(cat "$work/out")"
}

the_pod_is_yaml() {
	command -v ruby >/dev/null || skip "no ruby, which knows YAML"
	ruby -ryaml -e 'pod = YAML.load_file(ARGV[0])
		env = pod["spec"]["containers"][0]["env"]
		exit(env.all? { |e| e["name"].is_a?(String) && e["value"].is_a?(String) } && env[0]["value"] == "libhakmem.so.0")' \
		"$top/examples/kubernetes.yaml" || say "examples/kubernetes.yaml is not as it should be"
}

nothing_is_excused_that_is_not_there() {
	local entry
	for entry in "${elsewhere[@]}"; do
		grep -qxF "$entry" < <(printf "%s\n" "${used[@]}") || say "no document has ${entry%|*}" || return 1
	done
}

check nothing_is_excused_that_is_not_there
check the_slurm_job_runs
check the_drop_in_is_sound
check the_pod_is_yaml
[ $((passed + skipped)) -ge 40 ] || { echo "hardly any command was found" >&2; failed=$((failed + 1)); }
summary
