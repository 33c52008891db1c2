#!/bin/sh
# Run what `make test` leaves out, then its tests again on the other databases.
# Arguments: the environment's python, the number of processes, the marks of `make test`.
set -eu

python=$1 workers=$2 fast=$3
marks="(slow or browser or node)"
missing=

for browser in "${CHROMIUM:-chromium}" chromium-browser google-chrome; do
    if CHROMIUM=$(command -v "$browser"); then break; fi
done
export CHROMIUM
if [ -z "$CHROMIUM" ]; then
    missing=Chromium
    marks="$marks and not browser"
fi
if ! command -v node >/dev/null; then
    missing="${missing:+$missing and }Node"
    marks="$marks and not node"
fi
if [ -n "$missing" ] && [ "${CI:-}" = true ]; then
    echo "Not found: $missing. In CI every test has to run." >&2
    exit 1
fi

# pytest exits with 5 when no test carries the marks.
"$python" -m pytest -n "$workers" -m "$marks and not alone" || [ $? -eq 5 ]
"$python" -m pytest -m "$marks and alone" || [ $? -eq 5 ]

for database in "16 owner" "16 plain" "18 plain"; do
    version=${database% *} login=${database#* }
    echo "On PostgreSQL $version, logged in as $login:"
    TEST_POSTGRES=$version TEST_LOGIN=$login "$python" -m pytest -n "$workers" -m "$fast"
done

[ -z "$missing" ] || echo "Not found: $missing. The tests that need it did not run."
