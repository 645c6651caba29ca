#!/usr/bin/env bash
# tinygrad 0.14.0 on its CPU backend, which calls clang (seen 2026-11-29)
#
# What a cast to 8-bit floats does depends on where a kernel ends. x.cast(fp8e4m3).float() in one kernel only
# clamps to +-448 and rounds to float16; with contiguous() or realize() in between, the numbers are those of
# E4M3 (3 bits of fraction).
#
#   x                                       447   3.3     1.06     0.7      0.001     0.0005
#   x.cast(fp8e4m3).float()                 447   3.301   1.0596   0.7002   0.0010004 0.0005
#   x.cast(fp8e4m3).contiguous().float()    448   3.25    1        0.6875   0         0
#
# (The last line also sends 0.001 to 0: E4M3's nearest number is 2^-9 = 0.00195.)
#
# Why it matters: "cast and back" is how fp8 training and inference are simulated. Fused, it shows almost no
# loss of quality, because almost nothing was lost; the real storage shows another.
set -euo pipefail
command -v clang > /dev/null || { echo "needs clang" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    tinygrad==0.14.0 numpy==2.4.6 ml_dtypes==0.6.0 || exit 2
DEV=CPU CACHEDB="$folder/cache.db" "$folder/venv/bin/python" - <<'PYTHON'
import sys
import ml_dtypes
import numpy as np
from tinygrad import Tensor, dtypes

x = np.array([447, 3.3, 1.06, 0.7, 0.001, 0.0005], np.float32)
small = Tensor(x).cast(dtypes.fp8e4m3)
fused, stored = small.float().numpy(), Tensor(x).cast(dtypes.fp8e4m3).contiguous().float().numpy()
right = x.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
print("in one kernel:  ", fused)
print("stored between: ", stored)
print("ml_dtypes:      ", right)
if not np.array_equal(fused, x.astype(np.float16).astype(np.float32)):
    sys.exit("changed: in one kernel the numbers were those of float16")
if not np.array_equal(stored, np.array([448, 3.25, 1, 0.6875, 0, 0], np.float32)):
    sys.exit("changed: stored, they were 448 3.25 1 0.6875 0 0")
PYTHON
