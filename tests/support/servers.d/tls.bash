# shellcheck shell=bash
# shellcheck disable=SC2154  # the variables are set by tests/support/servers
# A certificate authority of our own, with a certificate for the servers and one for a client.
# Sourced by tests/support/servers.

tls_is_on() {
    [ "${OBX_SERVERS_TLS:-1}" != 0 ]
}

# tls_sign NAME SUBJECT EXTENSIONS: a key and a certificate signed by the authority.
tls_sign() {
    local base=$1
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$2" \
        -keyout "$base-key.pem" -out "$base.csr" &&
        openssl x509 -req -in "$base.csr" -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 3650 \
            -extfile <(printf '%s\n' "$3") -out "$base.pem"
}

tls_make() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
        -subj '/CN=Rowpost test authority' -keyout ca-key.pem -out ca.pem &&
        tls_sign server /CN=localhost "subjectAltName=DNS:localhost,IP:127.0.0.1" &&
        tls_sign client /CN=obx_client "extendedKeyUsage=clientAuth"
}

# Makes the certificates once; called under the lock, before the servers start.
tls_prepare() {
    local log=$dir/tls.log
    if ! tls_is_on || [ -d "$dir/tls" ]; then
        return 0
    fi
    need_program openssl || return 1
    rm -rf "$dir/tls.new"
    mkdir -p "$dir/tls.new"
    if ! (cd "$dir/tls.new" && umask 077 && tls_make) >"$log" 2>&1; then
        cat "$log" >&2
        fail "openssl could not make the certificates, see above"
        return 1
    fi
    mv "$dir/tls.new" "$dir/tls"
}

tls_env() {
    tls_is_on && [ -d "$dir/tls" ] || return 0
    print_export OBX_TEST_TLS_CA "$dir/tls/ca.pem"
    print_export OBX_TEST_TLS_CERT "$dir/tls/client.pem"
    print_export OBX_TEST_TLS_KEY "$dir/tls/client-key.pem"
}
