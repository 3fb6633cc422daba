# What the scripts share: options, a log, and the commands they run. Sourced, not run.
# shellcheck shell=bash
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
log_file=${LOG_FILE:-$here/$(basename "$0" .sh).log}
dry_run=false

say() { printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" | tee -a "$log_file"; }

fail() {
    say "FAILED: $*" >&2
    exit 1
}

# The comment at the top of the script is its help.
show_help() { sed -n '2,/^[^#]/{/^# shellcheck/d;/^#/s/^# \{0,1\}//p}' "$0"; }

# run COMMAND…: runs it, or with --dry-run says it.
run() {
    if $dry_run; then
        echo "would run: $*"
    else
        say "$*"
        "$@"
    fi
}

compose() {
    if docker compose version > /dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}

# The files of the stack: with Postgres and Qdrant unless the machine has its own.
files() {
    printf -- '-f\n%s\n' "$here/docker-compose.yml"
    if [ "${EXISTING_STORES:-false}" != true ]; then printf -- '-f\n%s\n' "$here/docker-compose.stores.yml"; fi
}

stack() {
    local list
    mapfile -t list < <(files)
    run compose --project-directory "$here" "${list[@]}" "$@"
}

need() { command -v "$1" > /dev/null || fail "$1 is not installed"; }

read_env() {
    [ -f "$root/.env" ] || fail "there is no .env: cp .env.template .env, and set POSTGRES_PASSWORD"
    set -a
    # shellcheck disable=SC1091
    . "$root/.env"
    set +a
}

# is_serving CONTAINER: whether the primary store serves. Docker's health is that of the weakest store, which is no reason to
# take a release back.
is_serving() { docker exec "$1" curl -fsS -o /dev/null http://localhost:8090/health/ready > /dev/null 2>&1; }

# wait_serving CONTAINER SECONDS
wait_serving() {
    $dry_run && return 0
    local end=$((SECONDS + $2))
    until is_serving "$1"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 1
    done
}
