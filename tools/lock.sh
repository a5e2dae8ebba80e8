#!/usr/bin/env bash
# Make the lock files anew. They hold hashes for every platform and name no host, so that each mirror serves them.
#   requirements.lock        everything: all extras and the development group
#   requirements-demo.lock   what `make demo` needs: the project and the extra `demo`
#   requirements-image.lock  what the image holds: the project, every database and the operator, without the demo
#   requirements-build.lock  what installs those: uv and hatchling
set -euo pipefail
cd "$(dirname "$0")/.."
options=(--quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11 "$@")
UV=${UV:-uv}
"$UV" pip compile "${options[@]}" --all-extras --group dev pyproject.toml -o requirements.lock
# The smaller ones take their versions from the first one, so that a demo runs what the tests ran.
"$UV" pip compile "${options[@]}" --extra demo --constraints requirements.lock pyproject.toml -o requirements-demo.lock
"$UV" pip compile "${options[@]}" --extra mysql --extra operator --constraints requirements.lock pyproject.toml -o requirements-image.lock
"$UV" pip compile "${options[@]}" --constraints requirements.lock requirements-build.in -o requirements-build.lock
grep -nE '://' requirements*.lock && { echo "a lock file names a host" >&2; exit 1; }
exit 0
