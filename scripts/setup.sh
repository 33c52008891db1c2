#!/bin/sh
# Make the virtual environment $1 hold exactly what requirements.txt pins, and the `docutalk` command.
# Returns at once where it does already. Needs no root; packages come from where pip is told to look.
set -eu

venv=$1
ready=$venv/.docutalk-ready
wanted=$(pwd; grep '^version' pyproject.toml; cksum requirements.txt scripts/setup.sh)

if [ -f "$ready" ] && [ "$(cat "$ready")" = "$wanted" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    exit 0
fi

fail() {
    echo "$1" >&2
    exit 1
}

if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ]; then
    fail "$venv exists and is no virtual environment: remove it, or choose another place with VENV=."
fi

# Print the path of a Python that is no part of an environment, since that may be the one to be made anew. Where
# pyenv lacks the version that .python-version names, the user's own shows outside of this directory.
find_python() {
    program='import os, sys; sys.version_info < (3, 11) and sys.exit(1); print(os.path.realpath(sys.executable))'
    for place in . /; do
        for candidate in python3 python3.13 python3.12 python3.11; do
            (cd "$place" && "$candidate" -c "$program") 2>/dev/null && return
        done
    done
    return 1
}
python=$(find_python) || fail "DocuTalk needs Python 3.11 or newer: install it, then run make again."

echo "Preparing $venv with $("$python" --version); this happens once and takes a minute or two."
rm -rf "$venv"
# The first two would keep pip from installing where it is told to; the others only silence advice.
export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# Debian without python3-venv makes no pip: there the environment gets it from the pip outside, or from uv.
if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
    "$python" -m venv --clear --without-pip "$venv"
    if "$python" -m pip --version >/dev/null 2>&1; then
        packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        "$python" -m pip install --quiet --target "$packages" pip
    elif command -v uv >/dev/null; then
        uv pip install --quiet --python "$venv/bin/python" pip
    else
        fail "$python comes without pip: install python3-pip or python3-venv, then run make again."
    fi
fi

pip() {
    "$venv/bin/python" -m pip "$@"
}

# uv is quicker, but does not read pip's configuration: where that chooses an index, or where uv fails, pip installs.
by_uv() {
    command -v uv >/dev/null || return 1
    if pip config list | grep -E '\.(index-url|no-index)=' >/dev/null; then return 1; fi
    uv pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements.txt && return
    echo "uv could not install the packages; trying pip."
    return 1
}
by_uv || pip install --quiet --no-compile --require-hashes -r requirements.txt
pip install --quiet --no-index --no-deps --no-build-isolation --editable .

printf '%s\n' "$wanted" >"$ready"
