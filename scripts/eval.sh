#!/usr/bin/env bash
# Measures retrieval with a live gateway on servers of its own: eval.sh EVAL_FOLDER PYTHON
# The recorded embeddings are served when the Python at hand has what their server needs (its requirements.txt).
set -euo pipefail
eval=$(cd "${1:?usage: $0 EVAL_FOLDER PYTHON}" && pwd)
python=$(cd "$(dirname "${2:?usage: $0 EVAL_FOLDER PYTHON}")" && pwd)/$(basename "$2")
cd "$(dirname "$0")/.."

"$python" -c 'import aiohttp, numpy, orjson, uvloop' 2> /dev/null ||
    "$python" -m pip install --quiet --disable-pip-version-check -r "$eval/requirements.txt"
port=${EMBED_PORT:-8099}
gateway_port=${API_PORT:-8098}
"$python" "$eval/embed_server.py" --port "$port" &
embed=$!
trap 'kill $embed 2> /dev/null || true' EXIT
until "$python" - "$port" << 'CHECK' 2> /dev/null; do sleep 0.2; done
import sys, urllib.request
urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/health", timeout=1)
CHECK

export EMBEDDINGS_URL=http://127.0.0.1:$port/v1 EMBEDDINGS_MODEL=recorded-minilm API_PORT=$gateway_port LOG_LEVEL=warning
"$python" Tests/Support/servers.py run -- bash -euo pipefail -c '
    .build/release/memory-gateway &
    gateway=$!
    trap "kill $gateway; wait $gateway" EXIT
    until curl -sf -o /dev/null "http://127.0.0.1:$API_PORT/health/ready"; do sleep 0.1; done
    "$1" "$2/run_eval.py" --base-url "http://127.0.0.1:$API_PORT" --split dev --embed-url "http://127.0.0.1:$3" "${@:4}"
' eval "$python" "$eval" "$port" "${@:3}"
