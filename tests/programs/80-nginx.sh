#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does nginx serve the right bytes to many clients while it reloads?
. "${BASH_SOURCE%/*}/lib.sh"
packages apache2-utils nginx python3
commands nginx ab "$python"
begin

port=$(free_port)
mkdir -p root temporary logs
for size in 0 1 100 5000 70000 3000000; do
	seq 1 1000000 | head -c "$size" >"root/$size" || true
done
user=
((EUID != 0)) || user='user nobody nogroup;' # its workers give up root
cat >nginx.conf <<END
$user
worker_processes 2;
daemon off;
pid nginx.pid;
error_log error.log notice;
events { worker_connections 512; }
http {
	access_log off;
	sendfile off;
	aio threads;
	client_body_temp_path temporary/body;
	proxy_temp_path temporary/proxy;
	fastcgi_temp_path temporary/fastcgi;
	uwsgi_temp_path temporary/uwsgi;
	scgi_temp_path temporary/scgi;
	gzip on;
	gzip_types application/octet-stream;
	proxy_buffering on;
	server {
		listen 127.0.0.1:$port;
		root root;
		location /proxied/ { proxy_pass http://127.0.0.1:$port/; }
	}
}
END

workers() {
	children_of "$nginx" | sort
}

workers_changed() { # BEFORE
	local now

	now=$(workers)
	[[ $(wc -l <<<"$now") -ge 2 && -z $(comm -12 <(echo "$1") <(echo "$now")) ]]
}

serve server.log nginx -p "$PWD" -c "$PWD/nginx.conf" -e error.log
nginx=$server
wait_until 20 bash -c ": </dev/tcp/127.0.0.1/$port" || fail "nginx does not answer"
mapfile -t first < <(workers)
((${#first[@]} == 2)) || fail "nginx has ${#first[@]} workers"
expect_mapped "$nginx" "${first[@]}"

for round in 1 2 3; do
	ab -q -n 5000 -c 30 "http://127.0.0.1:$port/5000" >"ab.$round" 2>&1 &
	load=$!
	before=$(workers)
	"$python" -I "$source_dir/src/fetch.py" "$port" root
	kill -HUP "$nginx"
	"$python" -I "$source_dir/src/fetch.py" "$port" root
	# A reload loses no request.
	wait "$load" || { cat "ab.$round" >&2; fail "ab failed"; }
	expect_text "ab" "^Complete requests: +5000$" "ab.$round"
	expect_text "ab" "^Failed requests: +0$" "ab.$round"
	wait_until 20 workers_changed "$before" || fail "the old workers are still there"
	mapfile -t now < <(workers)
	expect_mapped "${now[@]}"
done
ab -q -k -H 'Accept-Encoding: gzip' -n 3000 -c 20 "http://127.0.0.1:$port/70000" >ab.gzip 2>&1
expect_text "ab" "^Failed requests: +0" ab.gzip
"$python" -I "$source_dir/src/fetch.py" "$port" root

kill -QUIT "$nginx"
finish_server "$nginx" nginx 0
! grep -E 'exited on signal|\[(alert|emerg|crit)\]' error.log server.log
