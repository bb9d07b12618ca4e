#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Does openssl time its ciphers, make known digests and speak TLS to itself?
. "${BASH_SOURCE%/*}/lib.sh"
packages openssl
commands openssl
begin

under_test openssl speed -seconds 1 -bytes 1024 -multi 2 -evp aes-256-gcm >speed.out 2>speed.log
expect_text "openssl speed" "^(aes-256-gcm|AES-256-GCM|evp) +[0-9.]+k" speed.out
under_test openssl speed -seconds 1 ecdsap256 >speed.out 2>speed.log
expect_text "openssl speed" "256 bits ecdsa" speed.out

expect_equal "SHA-256 of a million a's" \
	cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0 \
	"$(head -c 1000000 /dev/zero | tr '\0' a | under_test openssl dgst -sha256 -r | cut -d ' ' -f 1)"

under_test openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out certificate.pem \
	-days 2 -subj /CN=localhost 2>request.log
seq 1 200000 >page
under_test openssl enc -aes-256-cbc -pbkdf2 -pass pass:word -in page -out page.enc
under_test openssl enc -d -aes-256-cbc -pbkdf2 -pass pass:word -in page.enc -out page.dec
cmp page page.dec

port=$(free_port)
rounds=12
# It ends by itself after so many connections: by exit, as a signal would not. The
# first is the look whether it is there.
serve server.log openssl s_server -accept "127.0.0.1:$port" -cert certificate.pem -key key.pem \
	-WWW -quiet -naccept $((rounds + 1))
tls=$server
wait_until 20 bash -c ": </dev/tcp/127.0.0.1/$port" || fail "openssl s_server does not answer"
expect_mapped "$tls"
for ((i = 0; i < rounds; i++)); do
	version=-tls1_$((2 + i % 2))
	printf 'GET /page HTTP/1.0\r\n\r\n' | under_test openssl s_client -connect "127.0.0.1:$port" \
		-CAfile certificate.pem -verify_return_error -servername localhost "$version" \
		-quiet -no_ign_eof -ign_eof >answer 2>client.log
	sed '1,/^\r*$/d' answer | cmp - page
done
finish_server "$tls" openssl 0
