#!/bin/sh
# Run tests on each other PostgreSQL version and kind of login; `make test` uses 18 with the superuser's.
# Arguments: the environment's python, the number of processes, the marks of the tests, and their files (by default all).
set -eu

python=$1 workers=$2 marks=$3
shift 3

for database in "16 owner" "16 plain" "18 plain"; do
    version=${database% *} login=${database#* }
    echo "On PostgreSQL $version, logged in as $login:"
    TEST_POSTGRES=$version TEST_LOGIN=$login "$python" -m pytest -n "$workers" -m "$marks" "$@"
done
