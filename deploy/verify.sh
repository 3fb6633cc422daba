#!/usr/bin/env bash
# Checks every tier, bottom up, and exits with 1 at the first that fails.
#   verify.sh [--url http://localhost:8090] [--dry-run] [--help]
# Inside Docker the gateway is asked in its container, because its port is not on the host.
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/lib.sh"

url=
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) show_help; exit 0 ;;
        --dry-run) dry_run=true ;;
        --url) url=${2:?--url needs an address}; shift ;;
        *) fail "unknown option $1; see --help" ;;
    esac
    shift
done

check() { # check WHAT COMMAND…
    local what=$1
    shift
    if $dry_run; then echo "would check: $what: $*"; return; fi
    "$@" > /dev/null 2>&1 || fail "$what"
    say "good: $what"
}

ask() { if [ -n "$url" ]; then curl -fsS --max-time 5 "$url$1"; else docker exec memory-gateway curl -fsS --max-time 5 "http://localhost:8090$1"; fi; }

if [ -z "$url" ]; then
    check "valkey answers" sh -c 'docker exec valkey redis-cli ping | grep -qx PONG'
    check "valkey evicts the least recently used" sh -c 'docker exec valkey redis-cli config get maxmemory-policy | grep -q allkeys-lru'
fi
check "the gateway runs" ask /health/live
check "the primary store serves" ask /health/ready
check "every store is up" ask /health
check "the API describes itself" ask /openapi.json
say "all tiers are good"
