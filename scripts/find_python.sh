#!/bin/sh
# Print a Python from 3.11 up to, not including, 3.13, or one line that says what to install.
# PYTHON, when set, is the only candidate.
for candidate in ${PYTHON:-python3.11 python3.12 python3 python}; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
        command -v "$candidate"
        exit 0
    fi
done
echo "gridwatch needs Python 3.11 or 3.12, none of '${PYTHON:-python3.11 python3.12 python3 python}' is one:" \
     "install it with 'sudo apt-get install python3.11 python3.11-venv' or 'brew install python@3.11'," \
     "or name it with 'make PYTHON=/path/to/python3.11 ...'" >&2
exit 1
