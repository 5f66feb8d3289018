#!/bin/sh
# make_venv.sh PYTHON FOLDER: create a virtual environment there unless a working one is.
set -eu
python=$1 folder=$2
if "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "$python has no venv module: install it with 'sudo apt-get install python3-venv'" >&2
    exit 1
fi
rm -rf "$folder"
"$python" -m venv "$folder"
