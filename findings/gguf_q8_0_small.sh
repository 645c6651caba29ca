#!/usr/bin/env bash
# gguf 0.19.0 (the Python package of ggml), numpy 2.4.6 (seen 2026-11-29)
#
# Q8_0 keeps 32 weights as 8-bit integers with one float16 scale, so the error should be 0.4 % of the block's
# largest weight. The scale is that weight / 127 and runs out of float16's subnormals: blocks of small weights
# come back wrong or empty.
#
#   largest weight of the block    1        1e-3       1e-4      1e-5     4e-6     3.7e-6
#   comes back as                  0.9999   0.9992e-3  0.984e-4  7.57e-6  7.57e-6  0
#   largest error, of that weight  0.4 %    0.4 %      1.6 %     24 %     89 %     100 %
#
# Why it matters: "8 bits, practically lossless" is true of weights near 0.01. Rows that weight decay drove
# towards zero and small low-rank factors lose a quarter of their size, or all of it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: gguf==0.19.0 numpy==2.4.6 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import numpy as np
from gguf import GGMLQuantizationType, quants

for largest, low, high in ((1, 0, 1e-3), (1e-3, 0, 1e-3), (1e-4, 0, 0.03), (1e-5, 0.2, 0.3), (4e-6, 0.8, 1.0),
                           (3.7e-6, 1.0, 1.0)):
    block = np.linspace(-largest, largest, 32, dtype=np.float32)
    kind = GGMLQuantizationType.Q8_0
    back = quants.dequantize(quants.quantize(block, kind), kind)
    error = np.abs(back - block).max() / np.abs(block).max()
    print(f"largest weight {largest:g}: comes back as {np.abs(back).max():.4g}, largest error {100 * error:.2f} %")
    if not low <= error <= high + 0.005:
        sys.exit(f"changed: this error was from {low} to {high}")
PYTHON
