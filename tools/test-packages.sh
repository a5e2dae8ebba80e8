#!/usr/bin/env bash
# The Debian packages that the tests need, installed where that is allowed; a clear message where it is not.
# What an S3GC_TEST_*_DSN names is not asked for: that server is yours. The same goes for a cluster that KUBECONFIG and
# S3GC_TEST_IMAGE name. Never asks anything.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/usr/local/sbin"
missing=()

have_postgres() {
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || return 1
    compgen -G '/usr/share/postgresql/*/extension/hstore.control' >/dev/null \
        || [ -e "$(pg_config --sharedir 2>/dev/null)/extension/hstore.control" ]
}
have_mariadb() {
    command -v mariadb-install-db >/dev/null && { command -v mariadbd || command -v mysqld; } >/dev/null \
        && command -v mariadb >/dev/null
}

[ -n "${S3GC_TEST_POSTGRES_DSN:-}" ] || have_postgres || missing+=(postgresql postgresql-contrib)
[ -n "${S3GC_TEST_MARIADB_DSN:-}" ] || have_mariadb || missing+=(mariadb-server)
[ -n "${S3GC_TEST_POSTGRES_DSN:-}" ] || command -v pgbouncer >/dev/null || missing+=(pgbouncer)
command -v zstd >/dev/null || missing+=(zstd)
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || missing+=(chromium)
command -v faketime >/dev/null || missing+=(faketime)

# A node of the test bed's Kubernetes: program or file, and its package. It runs as root only, so nobody else needs it.
if [ "$(id -u)" -eq 0 ] && ! { [ -n "${KUBECONFIG:-}" ] && [ -n "${S3GC_TEST_IMAGE:-}" ]; }; then
    for program in containerd runc buildah debootstrap iptables openssl gcc ip:iproute2; do
        command -v "${program%%:*}" >/dev/null || missing+=("${program##*:}")
    done
    [ -e /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
    [ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
fi
[ ${#missing[@]} -eq 0 ] && exit 0

become=()
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        become=(sudo -n)
    else
        echo "The tests need these Debian packages: ${missing[*]}." >&2
        echo "Installing them takes root: run \`sudo apt-get install ${missing[*]}\`, or name servers of your own" >&2
        echo "by S3GC_TEST_POSTGRES_DSN and S3GC_TEST_MARIADB_DSN (docs/development.md)." >&2
        exit 1
    fi
fi
command -v apt-get >/dev/null || {
    echo "The tests need PostgreSQL with contrib, MariaDB's server, zstd, Chromium and faketime; this machine has no apt-get to install" >&2
    echo "${missing[*]} with. Install them, or name servers of your own (docs/development.md)." >&2
    exit 1
}
echo "installing ${missing[*]}"
apt() {
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get -qq -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" </dev/null >/dev/null
}
apt update
apt install --no-install-recommends "${missing[@]}"
