#!/bin/sh
# Run the slow, Chromium and Node tests, then the tests marked `database` on the other databases.
# Arguments: the environment's python, the number of processes, and the marks that `make test` selects.
set -eu

python=$1 workers=$2 fast=$3
[ "$workers" != auto ] || workers=$(getconf _NPROCESSORS_ONLN)
marks="(slow or browser or node) and not long"
missing=

for browser in "${CHROMIUM:-chromium}" chromium-browser google-chrome; do
    if CHROMIUM=$(command -v "$browser"); then break; fi
done
export CHROMIUM
if [ -z "$CHROMIUM" ]; then
    missing=Chromium
    marks="$marks and not browser"
fi
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    missing="${missing:+$missing and }Node with npm"
    marks="$marks and not node"
fi
if [ -n "$missing" ] && [ "${CI:-}" = true ]; then
    echo "Not found: $missing. In CI every test has to run." >&2
    exit 1
fi

# This run has its own cache, so that the cache lists only the tests that failed in this run.
cache=$(mktemp -d)
flaky=
finish() {
    rm -rf "$cache"
    [ -z "$flaky" ] || printf 'Flaky, since they failed and then passed alone:\n%s\n' "$flaky"
    [ -z "$flaky" ] || [ "${GITHUB_ACTIONS:-}" != true ] || echo "::warning::Some tests are flaky; the log ends with their names."
}
trap finish EXIT

# These tests start processes and browsers, so on a busy machine a correct test can fail. Failed tests run once more, one
# test at a time. A test that fails again is broken; a test that passes is listed as flaky.
# The tests spend a third of their time waiting for leases, browsers and services. One more process uses that time.
status=0
"$python" -m pytest -n "$((workers + 1))" --no-loadscope-reorder -o cache_dir="$cache" -m "$marks" || status=$?
case $status in
0 | 5) ;; # pytest exits with 5 when no test carries the marks.
1)
    failed=$(sed -n 's/^  "\(.*\)": true,*$/  \1/p' "$cache/v/cache/lastfailed")
    echo "Running the failed tests once more, one at a time:"
    "$python" -m pytest -o cache_dir="$cache" --last-failed --last-failed-no-failures none -x -m "$marks"
    flaky=$failed
    ;;
*) exit "$status" ;;
esac

# Each process reads every test file that it gets, and that takes longer than many of these tests. So it gets only the
# files that contain the mark.
marked=$(grep -rlF --include='test_*.py' mark.database tests)
# shellcheck disable=SC2086  # One word for each file.
sh "$(dirname "$0")/test_databases.sh" "$python" "database and $fast" $marked

[ -z "$missing" ] || echo "Not found: $missing. The tests that need it did not run."
