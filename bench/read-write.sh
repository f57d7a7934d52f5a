#!/bin/sh
# tlsfd_read and tlsfd_write beside recv and send, in guest instructions per call.
# SPDX-License-Identifier: MIT
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
exec "$top/lab/run" --icount --timeout 300 -- "${1:-$top/build}/bench/read-write"
