# SPDX-License-Identifier: MIT
# Subshells, pipes, arrays, expansions and jobs; prints what each counted.
set -euo pipefail

itself() {
	echo "$1"
}

count=0
sum=0
for ((i = 1; i <= 1500; i++)); do
	count=$((count + 1))
	sum=$((sum + $(itself "$i")))
done
# The sum of 1 to 1500, by 1500 processes.
echo "subshells $count $sum"

declare -A map
for ((i = 0; i < 30000; i++)); do
	map[key$((i * 7919 % 10007))]+="$i,"
done
joined=
for key in "${!map[@]}"; do
	joined+="$key=${map[$key]};"
done
echo "map ${#map[@]} ${#joined}"

text=$(seq 1 20000)
text=${text//[13579]/odd}
echo "text ${#text} $(sort <<<"$text" | uniq -c | sort -k1,1n -k2 | sha256sum | cut -c 1-16)"

nested() {
	if (($1 == 0)); then
		echo 1
	else
		echo $(($(nested $(($1 - 1))) + $(nested $(($1 - 1)))))
	fi
}
echo "nested $(nested 6)"

for ((i = 0; i < 40; i++)); do
	(seq 1 500 | (read -r _; cat) | while read -r line; do echo "$line"; done | tail -n 1) &
done | sort | uniq -c | tr -s ' '
wait

list=()
for ((i = 0; i < 40000; i++)); do
	list+=("item $i")
done
list=("${list[@]/item/thing}")
unset 'list[100]'
echo "list ${#list[@]} ${list[39999]}"
echo "done"
