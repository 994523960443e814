#!/bin/sh
# Creates or updates the environment of the project.
#   tools/install.sh DIRECTORY
# PYTHON=/path/to/python chooses the interpreter. Uses uv where it is on PATH, else pip.
set -eu

venv=$1
python=$venv/bin/python

find_python() {
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$name" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    echo "No Python >= 3.11 found; name one with PYTHON=/path/to/python." >&2
    exit 1
}

say() {
    echo "Installing into $venv (with $1) ..."
}

base=$(find_python)
if ! "$python" -c '' 2>/dev/null; then
    # Debian's python3 comes without ensurepip, so pip is not asked for here.
    "$base" -m venv --clear --without-pip "$venv"
fi

if command -v uv >/dev/null; then
    say uv
    uv pip install --quiet --python "$python" \
        --group dev --editable '.[django,hiredis]'
    exit
fi

say pip
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
if ! "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m ensurepip >/dev/null 2>&1 || "$python" tools/fetch_pip.py
fi
"$python" -m pip install --quiet --upgrade 'pip>=25.1' # the first to know --group
"$python" -m pip install --quiet --group dev --editable '.[django,hiredis]'
