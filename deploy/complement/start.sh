#!/bin/sh
# Starts the server as the conformance suite wants it. Keys and certificate are
# made once, so that a restarted container is the same server.
set -eu
dir=/data
mkdir -p "$dir"
if [ ! -f "$dir/tls.crt" ]; then
	openssl req -new -newkey rsa:2048 -nodes -sha256 -keyout "$dir/tls.key" -subj "/CN=$SERVER_NAME" -out "$dir/tls.csr"
	printf 'subjectAltName=DNS:%s\n' "$SERVER_NAME" >"$dir/tls.ext"
	openssl x509 -req -in "$dir/tls.csr" -CA /complement/ca/ca.crt -CAkey /complement/ca/ca.key -CAcreateserial \
		-CAserial "$dir/ca.srl" -days 1 -sha256 -extfile "$dir/tls.ext" -out "$dir/tls.crt"
fi
export STOA_SERVER_NAME="$SERVER_NAME" STOA_DATA_DIR="$dir" STOA_CLIENT_LISTEN=0.0.0.0:8008 STOA_PUBLIC_URL="http://$SERVER_NAME:8008"
export STOA_FEDERATION_LISTEN=0.0.0.0:8448 STOA_TLS_CERT="$dir/tls.crt" STOA_TLS_KEY="$dir/tls.key" STOA_FEDERATION_CA=/complement/ca/ca.crt
export STOA_FEDERATION_ALLOW_PRIVATE=true STOA_REGISTRATION=open STOA_REGISTRATION_SHARED_SECRET=complement STOA_RATE_LIMITS=off
exec stoa serve
