#!/bin/sh
# The relay beside a bare loop of splice, in guest instructions per byte.
# SPDX-License-Identifier: MIT
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
exec "$top/lab/run" --icount --timeout 300 -- "${1:-$top/build}/bench/relay"
