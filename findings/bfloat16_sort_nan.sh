#!/usr/bin/env bash
# ml_dtypes 0.6.0, numpy 2.4.6 (seen 2026-11-29)
#
# One NaN in an array of ml_dtypes.bfloat16 or float8_e4m3fn, and np.sort and np.argsort give back numbers out
# of order. numpy puts NaN last for its own floats; for ml_dtypes' types a NaN compares as neither smaller nor
# larger, and the sorting goes wrong around it.
#
#                                         float16, float32     bfloat16, float8_e4m3fn
#   np.sort of [3 nan 1 2]                [1 2 3 nan]          [3 nan 1 2]
#   np.argsort of it                      [2 3 0 1]            [0 1 2 3]
#   last two of np.sort of [5 nan 1 2 4]  [5 nan]              [2 4]
#
# Why it matters: weights and scores are ranked on the host for pruning, for top-k selections, for quantiles.
# With one NaN the "largest k" are not the largest, and no NaN among them tells. Convert to float32 first: it
# holds every bfloat16.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: numpy==2.4.6 ml_dtypes==0.6.0 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import ml_dtypes
import numpy as np

nan = float("nan")
last_two = {True: [5, nan], False: [2, 4]}
order = {True: [2, 3, 0, 1], False: [0, 1, 2, 3]}
for dtype in (np.float16, np.float32, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn):
    own = dtype in (np.float16, np.float32)
    seen = np.argsort(np.array([3, nan, 1, 2], dtype)).tolist()
    top = np.sort(np.array([5, nan, 1, 2, 4], dtype))[-2:].astype(np.float64).tolist()
    print(f"{dtype.__name__}: argsort {seen}, the last two of five {top}")
    if seen != order[own] or str(top) != str([float(x) for x in last_two[own]]):
        sys.exit(f"changed: this was {order[own]}, {last_two[own]}")
PYTHON
