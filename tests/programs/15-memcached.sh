#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does memcached return every value of every size to several clients at once?
. "${BASH_SOURCE%/*}/lib.sh"
packages memcached python3
commands memcached "$python"
begin

port=$(free_port)
user=()
((EUID != 0)) || user=(-u nobody) # it refuses to stay root

serve server.log memcached -l 127.0.0.1 -p "$port" -U 0 -t 4 -m 256 -I 2m "${user[@]}"
memcached=$server
wait_until 20 bash -c ": </dev/tcp/127.0.0.1/$port" || fail "memcached does not answer"
expect_mapped "$memcached"

"$python" -I "$source_dir/src/memcached_values.py" "$port"

kill -TERM "$memcached"
finish_server "$memcached" memcached 0
