#!/bin/sh
# Puts Heddle's CNI plugins where this machine's runtimes look for them, and takes them away again: `heddle install`, from
# the dist/ beside this script. See install.sh --help.
set -eu
heddle=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/dist/heddle
if [ ! -x "$heddle" ]; then
    printf 'install.sh: %s is not there: run `make build` first\n' "$heddle" >&2
    exit 1
fi
exec "$heddle" install "$@"
