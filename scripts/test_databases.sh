#!/bin/sh
# Run tests on each other PostgreSQL version and kind of login; `make test` uses 18 with the superuser's.
# Arguments: the environment's python, the marks of the tests, and their files (by default all).
set -eu

python=$1 marks=$2
shift 2

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# One process for each database, side by side: to read the tests and to load what they need costs each process seconds.
printf '%s\n' "16 owner" "16 plain" "18 plain" | xargs -P 3 -I '{}' sh -c '
    database=$1 logs=$2 status=0
    shift 2
    TEST_POSTGRES=${database% *} TEST_LOGIN=${database#* } "$@" >"$logs/$database" 2>&1 || status=$?
    echo "On PostgreSQL ${database% *}, logged in as ${database#* }:"
    cat "$logs/$database"
    exit $status
' sh '{}' "$logs" "$python" -m pytest -m "$marks" "$@"
