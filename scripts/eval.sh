#!/usr/bin/env bash
# Measures retrieval with live gateways: eval.sh EVAL_FOLDER PYTHON [servers|embedded|lexical|transfer …]
#   servers   the three servers, recorded vectors        embedded  embedded stores, recorded vectors
#   lexical   embedded stores, the local lexical embedder
#   transfer  what embedded holds, exported and imported into the three servers, then measured there
# The recorded embeddings are served when the Python at hand has what their server needs (its requirements.txt).
set -euo pipefail
usage="usage: $0 EVAL_FOLDER PYTHON [servers|embedded|lexical|transfer …]"
eval=$(cd "${1:?$usage}" && pwd)
python=$(cd "$(dirname "${2:?$usage}")" && pwd)/$(basename "$2")
cd "$(dirname "$0")/.."
shift 2
[ $# -gt 0 ] || set -- servers

"$python" -c 'import aiohttp, numpy, orjson, uvloop' 2> /dev/null ||
    "$python" -m pip install --quiet --disable-pip-version-check -r "$eval/requirements.txt"
gateway=.build/release/memory-gateway
embed_port=${EMBED_PORT:-8099}
export API_PORT=${API_PORT:-8098} LOG_LEVEL=error
work=$(mktemp -d)
"$python" "$eval/embed_server.py" --port "$embed_port" &
embed=$!
trap 'kill $embed 2> /dev/null || true; rm -rf "$work"' EXIT
until curl -sf -o /dev/null "http://127.0.0.1:$embed_port/health"; do sleep 0.2; done

measure() { # measure [OPTION…]: the gateway on the environment's stores
    $gateway &
    local running=$!
    until curl -sf -o /dev/null "http://127.0.0.1:$API_PORT/health/ready"; do sleep 0.1; done
    "$python" "$eval/run_eval.py" --base-url "http://127.0.0.1:$API_PORT" --split dev \
        --embed-url "http://127.0.0.1:$embed_port" "$@" || true
    kill $running
    wait $running || true
}
export -f measure
export eval python gateway embed_port work

recorded="EMBEDDINGS_URL=http://127.0.0.1:$embed_port/v1 EMBEDDINGS_MODEL=recorded-minilm"
for set in "$@"; do
    echo "== $set"
    case $set in
        servers) env $recorded "$python" Tests/Support/servers.py run -- bash -c measure ;;
        embedded) env $recorded MEMORY_DATA_DIR="$work/embedded" bash -c measure ;;
        lexical) env MEMORY_DATA_DIR="$work/lexical" bash -c measure ;;
        transfer)
            [ -e "$work/embedded" ] || env $recorded MEMORY_DATA_DIR="$work/embedded" bash -c measure
            env $recorded MEMORY_DATA_DIR="$work/embedded" $gateway export > "$work/memories.ndjson"
            env $recorded "$python" Tests/Support/servers.py run -- bash -c '
                $gateway import < "$work/memories.ndjson" && measure --skip-ingest'
            ;;
        *) echo "$usage" >&2; exit 2 ;;
    esac
done
