#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does postgres keep its sums through pgbench, parallel queries and a restart?
. "${BASH_SOURCE%/*}/lib.sh"
packages postgresql
# Debian keeps the server's programs out of PATH, one folder for each version.
bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
files "$bin/initdb" "$bin/postgres" "$bin/pgbench" "$bin/psql"
commands setpriv
begin

if ((EUID == 0)); then # postgres refuses to run as root
	run_as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
	install -d -m 700 -o nobody -g nogroup data socket
else
	install -d -m 700 data socket
fi
port=$(free_port)
export PGHOST=127.0.0.1 PGPORT=$port PGUSER=tester PGDATABASE=postgres

start() {
	serve server.log "$bin/postgres" -D "$PWD/data" -p "$port" -c listen_addresses=127.0.0.1 \
		-c unix_socket_directories="$PWD/socket" -c fsync=off -c shared_buffers=64MB \
		-c max_parallel_workers_per_gather=2 -c min_parallel_table_scan_size=0 \
		-c parallel_setup_cost=0 -c parallel_tuple_cost=0 -c dynamic_shared_memory_type=mmap
	postgres=$server
	wait_until 30 "$bin/psql" -Atc 'SELECT 1' || { tail server.log >&2; fail "postgres does not answer"; }
	mapfile -t workers < <(children_of "$postgres")
	((${#workers[@]} >= 3)) || fail "postgres has ${#workers[@]} processes"
	expect_mapped "$postgres" "${workers[@]}"
}

stop() {
	kill -INT "$postgres" # fast shutdown
	finish_server "$postgres" postgres 0
}

query() {
	under_test "$bin/psql" -v ON_ERROR_STOP=1 -Atc "$1"
}

under_test "$bin/initdb" -D "$PWD/data" -U tester -A trust -N --no-locale -E UTF8 >initdb.out
start
under_test "$bin/pgbench" -i -q -s 3 postgres >pgbench-init.log 2>&1
under_test "$bin/pgbench" -n -c 8 -j 2 -t 400 postgres >pgbench.out 2>&1
expect_text "pgbench" "transactions actually processed: 3200/3200" pgbench.out
under_test "$bin/pgbench" -n -S -M prepared -c 8 -j 2 -t 1500 postgres >pgbench-select.out 2>&1
expect_text "pgbench -S" "transactions actually processed: 12000/12000" pgbench-select.out

# Each transaction adds the same amount to an account, a teller and a branch.
expect_equal "sums" "t|t|t|3200" "$(query "
	WITH a AS (SELECT sum(abalance) s FROM pgbench_accounts),
	     t AS (SELECT sum(tbalance) s FROM pgbench_tellers),
	     b AS (SELECT sum(bbalance) s FROM pgbench_branches),
	     h AS (SELECT sum(delta) s, count(*) n FROM pgbench_history)
	SELECT a.s = h.s, t.s = h.s, b.s = h.s, h.n FROM a, t, b, h")"
query "CREATE TABLE wide AS SELECT i, md5(i::text) AS name, repeat(md5(i::text), i % 60) AS body
	FROM generate_series(1, 40000) i; CREATE INDEX ON wide(name); ANALYZE wide" >query.out
known="
	SELECT count(*), sum(length(body)), md5(string_agg(name, ',' ORDER BY name)) FROM wide;
	SELECT md5(string_agg(t.line, ';' ORDER BY t.line)) FROM (
		SELECT left(a.name, 2) || ':' || count(*) AS line FROM wide a JOIN wide b
		ON left(a.name, 3) = left(b.name, 3) GROUP BY left(a.name, 2)) t;
	SELECT md5(jsonb_agg(to_jsonb(w) ORDER BY i)::text) FROM wide w WHERE i % 10 = 0"
before=$(query "$known")
result "answers" "$(paste -sd ' ' <<<"$before")"
stop

start
expect_equal "answers after a restart" "$before" "$(query "$known")"
query "VACUUM FULL wide" >query.out
query "REINDEX DATABASE postgres" >query.out
expect_equal "answers after VACUUM FULL" "$before" "$(query "$known")"
stop
! grep -E 'PANIC|was terminated by signal|corrupt|invalid memory' server.log
