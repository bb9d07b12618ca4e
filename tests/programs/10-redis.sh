#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does redis-server keep its values through load, BGSAVE forks and DEBUG RELOAD?
. "${BASH_SOURCE%/*}/lib.sh"
packages redis-server redis-tools python3
commands redis-server redis-benchmark redis-cli "$python"
begin

keys=30000
port=$(free_port)

cli() {
	redis-cli -h 127.0.0.1 -p "$port" "$@"
}

saved() {
	[[ $(cli info persistence) == *rdb_bgsave_in_progress:0* ]]
}

serve server.log redis-server --bind 127.0.0.1 --port "$port" --save '' \
	--appendonly no --dir "$PWD" --enable-debug-command local
redis=$server
wait_until 20 cli ping || fail "redis-server does not answer"
expect_mapped "$redis"

"$python" -I "$source_dir/src/redis_values.py" "$port" load "$keys"
size=$(cli dbsize)

# Forks while two threads of clients write: the benchmark's own keys go to database 9.
under_test redis-benchmark -h 127.0.0.1 -p "$port" --dbnum 9 --threads 2 -c 20 -q \
	-n 60000 -r 20000 -d 300 -P 4 -t set,get,lpush,rpop,hset,zadd >benchmark.log &
benchmark=$!
for _ in 1 2 3; do
	expect_equal "BGSAVE" "Background saving started" "$(cli bgsave)"
	wait_until 30 saved || fail "BGSAVE does not end"
	[[ $(cli info persistence) == *rdb_last_bgsave_status:ok* ]] ||
		fail "the child of BGSAVE failed"
done
wait "$benchmark"
expect_text "redis-benchmark" "ZADD: [0-9.]+ requests per second" benchmark.log

"$python" -I "$source_dir/src/redis_values.py" "$port" check "$keys"
expect_equal "DEBUG RELOAD" OK "$(cli debug reload)"
expect_equal "DBSIZE after DEBUG RELOAD" "$size" "$(cli dbsize)"
"$python" -I "$source_dir/src/redis_values.py" "$port" check "$keys"

expect_equal "FLUSHALL" OK "$(cli flushall async)"
expect_equal "DBSIZE after FLUSHALL" 0 "$(cli dbsize)"
cli shutdown nosave
finish_server "$redis" redis-server 0
