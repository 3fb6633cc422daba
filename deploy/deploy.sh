#!/usr/bin/env bash
# Brings the stack to what the files say, from any state, and waits until it serves (/health/ready). When the new gateway does
# not within 30 seconds, the image before it is put back.
#   deploy.sh [--existing-stores] [--agents] [--pull] [--dry-run] [--help]
#     --existing-stores   Postgres and Qdrant run on this machine already (POSTGRES_HOST and QDRANT_URL in .env)
#     --agents            starts planner, scheduler and observer as well
#     --pull              takes GATEWAY_IMAGE from its registry instead of building it
# The log is deploy.log beside this script, or LOG_FILE. HEALTH_SECONDS, 30 where it is not set, is how long a gateway has
# to serve.
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/lib.sh"

profiles=() pull=false
for argument in "$@"; do
    case $argument in
        --help | -h) show_help; exit 0 ;;
        --dry-run) dry_run=true ;;
        --existing-stores) export EXISTING_STORES=true ;;
        --agents) profiles=(--profile agents) ;;
        --pull) pull=true ;;
        *) fail "unknown option $argument; see --help" ;;
    esac
done

need docker
read_env
[ -n "${API_KEYS:-}" ] || [ "${ALLOW_ANONYMOUS:-}" = true ] || fail "API_KEYS in .env is empty: the gateway would be \
open to everyone (openssl rand -hex 32 makes a key; ALLOW_ANONYMOUS=true if that is meant)"
seconds=${HEALTH_SECONDS:-30}
for network in docker_proxy docker_syncbricks; do
    docker network inspect "$network" > /dev/null 2>&1 || run docker network create "$network"
done

image=${GATEWAY_IMAGE:-memory-gateway:local}
before=$(docker inspect -f '{{.Image}}' memory-gateway 2> /dev/null || true)
if [ -n "$before" ] && is_serving memory-gateway; then run docker tag "$before" memory-gateway:last-good; fi

if $pull; then stack pull memory-gateway; else stack build memory-gateway; fi
stack "${profiles[@]}" up -d --remove-orphans

if wait_serving memory-gateway "$seconds"; then
    run docker tag "$image" memory-gateway:last-good
    say "serves: $image"
    exit 0
fi
say "does not serve within $seconds seconds"
docker logs --tail 30 memory-gateway 2>&1 | tee -a "$log_file" || true
docker image inspect memory-gateway:last-good > /dev/null 2>&1 || fail "there is no earlier image to go back to"
export GATEWAY_IMAGE=memory-gateway:last-good
stack up -d --no-build memory-gateway
wait_serving memory-gateway "$seconds" || fail "the earlier image does not serve either"
fail "rolled back to the last good image; the stack serves"
