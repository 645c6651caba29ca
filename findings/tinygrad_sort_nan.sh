#!/usr/bin/env bash
# tinygrad 0.14.0 on its CPU backend, which calls clang (seen 2026-11-29)
#
# Tensor.sort of a row with a NaN gives some of its numbers back twice and others not at all, with the same
# index twice; Tensor.topk does too.
#
#   [3 1 2 nan].sort()          [1 3 1 3]       indices [1 0 0 0]      (2 and the NaN are gone)
#   [3 2 1 nan 5 4].sort()      [2 3 2 3 4 5]   indices [1 0 0 0 5 4]
#   [nan 3 1 2].topk(2)         [nan nan]       indices [0 0]
#   [3 1 2 nan].topk(2)         [3 1]           indices [0 1]          (2 is larger)
#   without a NaN all is right, infinities and ties included
#
# Why it matters: elsewhere a sort with a NaN puts it at one end, or at worst gives the row back in a wrong
# order. Here top-k picks the same expert or key twice and misses a larger one, and with a NaN that is not
# selected nothing tells.
set -euo pipefail
command -v clang > /dev/null || { echo "needs clang" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: tinygrad==0.14.0 numpy==2.4.6 || exit 2
DEV=CPU CACHEDB="$folder/cache.db" "$folder/venv/bin/python" - <<'PYTHON'
import sys
from tinygrad import Tensor

nan, inf = float("nan"), float("inf")


def check(what, pair, values, indices):
    seen = [x.numpy().tolist() for x in pair]
    print(f"{what}: {seen[0]} at {seen[1]}")
    if str(seen) != str([[float(v) for v in values], indices]):
        sys.exit(f"changed: this was {values} at {indices}")


check("sort of [3 1 2]", Tensor([3.0, 1, 2]).sort(), [1, 2, 3], [1, 2, 0])
check("topk(2) of [-inf 3 3 inf 1]", Tensor([-inf, 3, 3, inf, 1]).topk(2), [inf, 3], [3, 1])
check("sort of [3 1 2 nan]", Tensor([3.0, 1, 2, nan]).sort(), [1, 3, 1, 3], [1, 0, 0, 0])
check("sort of [3 2 1 nan 5 4]", Tensor([3.0, 2, 1, nan, 5, 4]).sort(), [2, 3, 2, 3, 4, 5], [1, 0, 0, 0, 5, 4])
check("topk(2) of [nan 3 1 2]", Tensor([nan, 3.0, 1, 2]).topk(2), [nan, nan], [0, 0])
check("topk(2) of [3 1 2 nan]", Tensor([3.0, 1, 2, nan]).topk(2), [3, 1], [0, 1])
PYTHON
