#!/usr/bin/env bash
# mlx and mlx-cpu 0.32.4 on a CPU (seen 2026-11-29)
#
# MLX's quantisation turns NaN and infinity into ordinary numbers. One NaN among weights from -1 to 1, in
# groups of 32 or 64:
#
#   to_fp8 of NaN                    448
#   quantize, 4 or 8 bits, NaN       the NaN becomes 1, the largest of its group; the rest is right
#   mxfp8, a NaN or inf in a group   every weight of the group becomes 896 or -896
#   mxfp4, a NaN or inf in a group   every weight of the group becomes 0
#
# Only infinity in the affine 4 and 8 bits stays visible: its group is NaN.
#
# Why it matters: a check for finite weights after the conversion says yes to a model that diverged, or whose
# file was damaged. Check before quantising.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: "mlx[cpu]==0.32.4" numpy==2.4.6 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)


def check(what, seen, wanted):
    print(f"{what}: {seen}")
    if seen != wanted:
        sys.exit(f"changed: this was {wanted}")


check("to_fp8 of NaN", mx.from_fp8(mx.to_fp8(mx.array([float("nan")])), mx.float32).item(), 448)
for special in (float("nan"), float("inf")):
    weights = np.linspace(-1, 1, 64, dtype=np.float32)[None]
    weights[0, 3] = special
    for how in ({"bits": 4}, {"bits": 8}, {"mode": "mxfp8"}, {"mode": "mxfp4"}):
        restored = np.array(mx.dequantize(*mx.quantize(mx.array(weights), **how), **how).astype(mx.float32))[0]
        group = restored[:32] if "mode" in how else restored
        kinds = sorted(set(np.abs(group).tolist())) if "mode" in how else restored[3].item()
        affine = 1.0 if np.isnan(special) else float("nan")
        wanted = {"mxfp8": [896.0], "mxfp4": [0.0]}.get(how.get("mode"), affine)
        check(f"{special} with {how}", str(kinds), str(wanted))
        check("    finite weights", int(np.isfinite(restored).sum()), 0 if str(kinds) == "nan" else 64)
PYTHON
