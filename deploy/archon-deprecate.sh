#!/usr/bin/env bash
# Stops the Archon stack for good: archives its configuration with the date, removes its containers, shows the memory that
# is free before and after, and notes it in SERVICE_INVENTORY.md. A second run finds nothing to do.
#   archon-deprecate.sh [--from DIR] [--archive DIR] [--inventory FILE] [--dry-run] [--help]
#     --from       the folder of Archon's docker-compose.yml (/home/david/services/archon)
#     --archive    where its configuration goes (/home/david/services/archive)
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/lib.sh"

from=/home/david/services/archon archive=/home/david/services/archive inventory=$root/SERVICE_INVENTORY.md
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) show_help; exit 0 ;;
        --dry-run) dry_run=true ;;
        --from) from=${2:?--from needs a folder}; shift ;;
        --archive) archive=${2:?--archive needs a folder}; shift ;;
        --inventory) inventory=${2:?--inventory needs a file}; shift ;;
        *) fail "unknown option $1; see --help" ;;
    esac
    shift
done

need docker
target=$archive/archon-$(date +%Y%m%d).yml
available() { free -m | awk '/^Mem:/ { print $7 }'; }
before=$(available)

if [ -f "$from/docker-compose.yml" ]; then
    run mkdir -p "$archive"
    run cp "$from/docker-compose.yml" "$target"
    run compose --project-directory "$from" -f "$from/docker-compose.yml" down
else
    say "no docker-compose.yml in $from"
fi
for container in archon-server archon-ui archon-mcp; do
    if docker inspect "$container" > /dev/null 2>&1; then run docker rm -f "$container"; fi
done
run free -h
say "$(($(available) - before)) MB more are available"

line="| Archon (archon-server, archon-ui, archon-mcp) | DEPRECATED (2025-12-01) | Replaced by Planner & Memory Architecture system | $target |"
if grep -q '^| Archon ' "$inventory" 2> /dev/null; then
    $dry_run || sed -i "s#^| Archon .*#${line//&/\\&}#" "$inventory"
else
    $dry_run || echo "$line" >> "$inventory"
fi
say "noted in $inventory"
