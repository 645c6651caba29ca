#!/usr/bin/env bash
# Whether all sources are as clang-format sets them (.clang-format). Its versions differ in a few lines: Debian 12's, 14,
# decides.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v clang-format > /dev/null; then
    echo "tests/format.sh: skipped, there is no clang-format (Debian: clang-format)"
    echo "0 passed, 0 failed, 1 skipped"
elif git ls-files '*.cpp' '*.h' '*.cu' '*.cuh' | xargs clang-format --dry-run -Werror; then
    echo "1 passed, 0 failed"
else
    echo "'make format' mends it ($(clang-format --version))"
    echo "0 passed, 1 failed"
    exit 1
fi
