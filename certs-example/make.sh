#!/bin/sh
# Makes throw-away certificates for trying longhaul on one machine.
#
#   make.sh [DIRECTORY]     default: the directory of this script
#
# A pair that is there, belongs to the CA and lasts another day is kept; all
# else is made anew. README.md says what each file is for.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
out=${1:-$here}
days=30
day=86400

command -v openssl >/dev/null || { echo "make.sh: openssl is not installed" >&2; exit 1; }
mkdir -p "$out"
cd "$out"
umask 077
work=$(mktemp -d "${TMPDIR:-/tmp}/longhaul-certs.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# One key on P-256 (PKCS#8) for each certificate.
make_key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>"$work/log" || fail
}

fail() {
    cat "$work/log" >&2
    exit 1
}

# Whether certificate $1 belongs to key $2 and lasts another day.
is_fresh() {
    [ -s "$1" ] && [ -s "$2" ] || return 1
    openssl x509 -in "$1" -noout -checkend "$day" >/dev/null 2>&1 || return 1
    openssl x509 -in "$1" -noout -pubkey >"$work/of-certificate" 2>/dev/null || return 1
    openssl pkey -in "$2" -pubout >"$work/of-key" 2>/dev/null || return 1
    cmp -s "$work/of-certificate" "$work/of-key"
}

# make_pair STEM COMMON-NAME USAGE [NAMES]: STEM.pem and STEM.key. Each file is
# moved into place whole, the key first, so that a running longhaul sees no half.
make_pair() {
    if is_fresh "$1.pem" "$1.key" &&
        openssl verify -CAfile ca.pem "$1.pem" >/dev/null 2>&1; then
        echo "kept $out/$1.pem and $1.key"
        return
    fi
    make_key "$work/key"
    {
        echo "basicConstraints = critical, CA:FALSE"
        echo "keyUsage = critical, digitalSignature"
        echo "extendedKeyUsage = $3"
        echo "authorityKeyIdentifier = keyid"
        if [ -n "${4:-}" ]; then echo "subjectAltName = $4"; fi
    } >"$work/extensions"
    openssl req -new -key "$work/key" -subj "/CN=$2" -out "$work/request" 2>"$work/log" || fail
    openssl x509 -req -in "$work/request" -CA ca.pem -CAkey ca.key \
        -set_serial "0x$(openssl rand -hex 8)" -days "$days" -sha256 \
        -extfile "$work/extensions" -out "$work/pem" 2>"$work/log" || fail
    chmod 644 "$work/pem"
    place "$work/key" "$1.key"
    place "$work/pem" "$1.pem"
    echo "made $out/$1.pem and $1.key (${4:-$2}; $days days)"
}

# Moves a file in one step, also from another file system.
place() {
    cp -p "$1" ".$2.new"
    mv -f ".$2.new" "$2"
    rm -f "$1"
}

if is_fresh ca.pem ca.key; then
    echo "kept $out/ca.pem and ca.key"
else
    make_key "$work/key"
    openssl req -x509 -new -key "$work/key" -sha256 -days "$days" \
        -subj "/CN=longhaul example CA, not for production" \
        -addext "basicConstraints = critical, CA:TRUE, pathlen:0" \
        -addext "keyUsage = critical, keyCertSign, cRLSign" \
        -out "$work/pem" 2>"$work/log" || fail
    chmod 644 "$work/pem"
    place "$work/key" ca.key
    place "$work/pem" ca.pem
    echo "made $out/ca.pem and ca.key ($days days)"
fi

make_pair example "chat.example.com" serverAuth \
    "DNS:chat.example.com, DNS:*.example.com, DNS:example.com"
make_pair localhost "localhost" serverAuth \
    "DNS:localhost, IP:127.0.0.1, IP:::1"
make_pair client "example client" clientAuth
