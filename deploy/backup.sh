#!/usr/bin/env bash
# Saves Postgres, which holds the truth: everything else can be made again from it. Valkey and Qdrant are saved as well
# unless --truth-only is given. Backups older than --keep days are removed.
#   backup.sh [--to DIR] [--keep DAYS] [--truth-only] [--dry-run] [--help]
# Nightly: 0 3 * * * /path/to/deploy/backup.sh
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/lib.sh"

to=$here/backups keep=14 truth_only=false
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) show_help; exit 0 ;;
        --dry-run) dry_run=true ;;
        --to) to=${2:?--to needs a folder}; shift ;;
        --keep) keep=${2:?--keep needs days}; shift ;;
        --truth-only) truth_only=true ;;
        *) fail "unknown option $1; see --help" ;;
    esac
    shift
done
case $keep in '' | *[!0-9]*) fail "--keep must be a number of days" ;; esac

need docker
read_env
folder=$to/$(date -u +%Y%m%dT%H%M%SZ)
run mkdir -p "$folder"
if $dry_run; then
    echo "would run: docker exec postgres pg_dump -Fc > $folder/postgres.dump"
else
    docker exec postgres pg_dump -Fc -U "${POSTGRES_USER:-postgres}" "${POSTGRES_DB:-postgres}" > "$folder/postgres.dump.part"
    # A dump that cannot be listed cannot be restored.
    docker exec -i postgres pg_restore --list < "$folder/postgres.dump.part" > /dev/null || fail "the dump is not readable"
    mv "$folder/postgres.dump.part" "$folder/postgres.dump"
    say "saved $(du -h "$folder/postgres.dump" | cut -f1) of Postgres"
fi
if ! $truth_only; then
    run docker exec valkey redis-cli bgrewriteaof
    run docker cp valkey:/data/. "$folder/valkey"
    # Qdrant is rebuilt by memory-gateway reindex; its files only save the time.
    if docker inspect qdrant > /dev/null 2>&1; then run docker cp qdrant:/qdrant/storage/. "$folder/qdrant"; fi
fi
run find "$to" -mindepth 1 -maxdepth 1 -type d -mtime "+$keep" -exec rm -rf {} +
say "backup: $folder"
