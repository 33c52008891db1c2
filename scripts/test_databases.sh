#!/bin/sh
# Run tests on PostgreSQL versions and logins that `make test` does not use. It uses PostgreSQL 18 with the superuser.
# Arguments: the environment's python, the marks of the tests, and the test files (all files by default).
set -eu

python=$1 marks=$2
shift 2

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# Each database has its own process, and the processes run in parallel. Each process needs seconds to load the tests and
# their imports.
printf '%s\n' "16 owner" "16 plain" "18 plain" | xargs -P 3 -I '{}' sh -c '
    database=$1 logs=$2 status=0
    shift 2
    TEST_POSTGRES=${database% *} TEST_LOGIN=${database#* } "$@" >"$logs/$database" 2>&1 || status=$?
    echo "On PostgreSQL ${database% *}, logged in as ${database#* }:"
    cat "$logs/$database"
    exit $status
' sh '{}' "$logs" "$python" -m pytest -m "$marks" "$@"
