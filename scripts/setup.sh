#!/bin/sh
# Prepare the virtual environment $1 with exactly the packages that requirements.txt pins, and the `docutalk` command.
# If the environment is already up to date, this script ends at once. It needs no root. Packages come from the indexes
# that pip is configured with.
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

# Print the path of a Python outside every virtual environment, because the active environment may be the one that is
# created again below. If pyenv lacks the version in .python-version, no Python runs in this directory. Then the user's
# Python is found from /.
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
# If the user's configuration turns on the first two options, pip would not install into this environment. The other two
# options only silence advice.
export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# Debian without python3-venv creates environments without pip. Then the system's pip, or uv, installs pip into this
# environment.
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

# uv is faster than pip, but does not read pip's configuration. If that configuration chooses an index, or if uv fails,
# pip installs the packages.
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
