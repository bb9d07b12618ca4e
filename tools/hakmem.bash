# SPDX-License-Identifier: MIT
# bash completion for hakmem(1). What there is to complete, the command's own help says.
# shellcheck shell=bash
_hakmem() {
	local cur=${COMP_WORDS[COMP_CWORD]} command='' i
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		[[ ${COMP_WORDS[i]} == -* ]] || { command=${COMP_WORDS[i]} && break; }
	done
	# what `hakmem run` runs completes as if it stood alone
	if [[ $command == run ]]; then
		for ((i++; i < COMP_CWORD; i++)); do
			if [[ ${COMP_WORDS[i]} == -- || ${COMP_WORDS[i]} != -* ]] && declare -F _command_offset >/dev/null; then
				[[ ${COMP_WORDS[i]} == -- ]] && ((i++))
				_command_offset "$i"
				return
			fi
		done
	fi
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(hakmem ${command:+"$command"} --help 2>/dev/null | grep -oE -- '--[a-z-]+=?' | sort -u)" -- "$cur")
		[[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace
		return
	fi
	case $command in
	'') mapfile -t COMPREPLY < <(compgen -W "$(hakmem --help | awk '/^Commands:/ { on = 1; next } on && /^  / { print $1 }')" -- "$cur") ;;
	stat) mapfile -t COMPREPLY < <(compgen -W "$(hakmem top --once | awk '$1 + 0 { print $1 }')" -- "$cur") ;;
	run) mapfile -t COMPREPLY < <(compgen -c -- "$cur") ;;
	report | replay | leaks | symbolize | topo) compopt -o default ;;
	esac
}
complete -F _hakmem hakmem
