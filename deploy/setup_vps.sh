#!/usr/bin/env bash
# Prepares a fresh Debian or Ubuntu server: Docker, a firewall that lets in SSH alone, swap, the networks. A second run
# changes nothing.
#   setup_vps.sh [--dry-run] [--help]
# shellcheck source=deploy/lib.sh
. "$(dirname "$0")/lib.sh"

for argument in "$@"; do
    case $argument in
        --help | -h) show_help; exit 0 ;;
        --dry-run) dry_run=true ;;
        *) fail "unknown option $argument; see --help" ;;
    esac
done
$dry_run || [ "$(id -u)" = 0 ] || fail "run this as root"

command -v docker > /dev/null || { run apt-get update; run apt-get install -y docker.io docker-compose ufw curl; }
run systemctl enable --now docker
if ! swapon --show 2> /dev/null | grep -q .; then
    run fallocate -l 2G /swapfile
    run chmod 600 /swapfile
    run mkswap /swapfile
    run swapon /swapfile
    grep -q '^/swapfile ' /etc/fstab || run sh -c 'echo "/swapfile none swap sw 0 0" >> /etc/fstab'
fi
# The tunnel goes out, so nothing but SSH must come in.
run ufw allow OpenSSH
run ufw --force enable
# Background saves of Valkey need it.
run sysctl -w vm.overcommit_memory=1
for network in docker_proxy docker_syncbricks; do
    docker network inspect "$network" > /dev/null 2>&1 || run docker network create "$network"
done
say "ready: cp .env.template .env, then deploy/deploy.sh"
