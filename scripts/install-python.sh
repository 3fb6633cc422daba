#!/usr/bin/env bash
# Makes the Python environment of the tests: install-python.sh FOLDER
set -euo pipefail
folder=${1:?usage: $0 FOLDER}
requirements=$(dirname "$0")/../Tests/Support/requirements.txt
stamp=$folder/.installed
if [ -e "$stamp" ] && cmp -s "$requirements" "$stamp"; then exit 0; fi
echo "Installing $(paste -sd ' ' "$requirements") into $folder"
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
cp "$requirements" "$stamp"
