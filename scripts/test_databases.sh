#!/bin/sh
# Run tests on each other PostgreSQL version and kind of login; `make test` uses 18 with the superuser's.
# Arguments: the environment's python, the number of processes, the marks of the tests.
set -eu

for database in "16 owner" "16 plain" "18 plain"; do
    version=${database% *} login=${database#* }
    echo "On PostgreSQL $version, logged in as $login:"
    TEST_POSTGRES=$version TEST_LOGIN=$login "$1" -m pytest -n "$2" -m "$3"
done
