#!/bin/sh
# Check the types of the page's scripts and lint the scripts, with the tools that package-lock.json pins.
# If Node.js is missing, this script prints that and succeeds. In CI it fails then.
set -eu

node=18 # The oldest version of Node.js that the tools run on.
tools=node_modules/.bin
ready=node_modules/.docutalk-ready

if ! node -e "process.exit(parseInt(process.versions.node) < $node ? 1 : 0)" 2>/dev/null || ! npm --version >/dev/null 2>&1; then
    echo "The page's scripts were not checked: install Node.js $node or newer with npm, then run make check again." >&2
    [ "${CI:-}" != true ]
    exit
fi

wanted=$(cksum package.json package-lock.json scripts/check_page.sh)
if [ ! -f "$ready" ] || [ "$(cat "$ready")" != "$wanted" ]; then
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
    printf '%s\n' "$wanted" >"$ready"
fi

status=0
"$tools/tsc" --project jsconfig.json || status=1
"$tools/biome" lint --error-on-warnings || status=1
exit $status
