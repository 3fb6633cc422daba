#!/usr/bin/env bash
# Puts a backup back: Postgres from its dump, then every vector again from it. What is there now is replaced.
#   restore.sh FOLDER --yes [--dry-run] [--help]
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/lib.sh"

folder='' yes=false
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) show_help; exit 0 ;;
        --dry-run) dry_run=true ;;
        --yes) yes=true ;;
        -*) fail "unknown option $1; see --help" ;;
        *) folder=$1 ;;
    esac
    shift
done
[ -n "$folder" ] || fail "which backup? restore.sh FOLDER --yes"
[ -s "$folder/postgres.dump" ] || fail "$folder has no postgres.dump"
$yes || $dry_run || fail "this replaces what is there now: add --yes"

need docker
read_env
user=${POSTGRES_USER:-postgres} database=${POSTGRES_DB:-postgres}
# Nobody may write in between.
run docker stop --time 35 memory-gateway
if $dry_run; then
    echo "would run: docker exec -i postgres pg_restore --clean --if-exists --single-transaction < $folder/postgres.dump"
else
    docker exec -i postgres pg_restore --clean --if-exists --no-owner --single-transaction -U "$user" -d "$database" < "$folder/postgres.dump"
fi
# Cached recalls are of another time.
run docker exec valkey redis-cli flushdb
run docker start memory-gateway
wait_serving memory-gateway 60 || fail "the gateway does not serve after the restore"
run docker exec memory-gateway memory-gateway setup
run docker exec memory-gateway memory-gateway reindex
run docker exec memory-gateway memory-gateway outbox reconcile
say "restored from $folder"
