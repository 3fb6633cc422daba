#!/usr/bin/env bash
# Installs the Debian packages that are missing. install-packages.sh PURPOSE…: build, test, bench, rolling
set -euo pipefail

packages=()
for purpose in "$@"; do
    case $purpose in
        build) packages+=(libpq-dev libhiredis-dev libcurl4-openssl-dev libstemmer-dev libsqlite3-dev pkg-config) ;;
        bench) packages+=(wrk gcc libc6-dev) ;;
        rolling) packages+=(nginx-light) ;;
        test) packages+=(postgresql python3 python3-venv) ;;
        *) echo "usage: $0 build|test|bench|rolling…" >&2; exit 2 ;;
    esac
done

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "Installing ${missing[*]}"
root=()
[ "$(id -u)" = 0 ] || root=(sudo)
"${root[@]}" apt-get update -qq
# Debian's postgresql starts a cluster of its own when it is installed; the tests start theirs.
if [ ! -e /etc/postgresql-common/createcluster.conf ] && [[ " ${missing[*]} " == *" postgresql "* ]]; then
    "${root[@]}" mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | "${root[@]}" tee /etc/postgresql-common/createcluster.conf > /dev/null
fi
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
