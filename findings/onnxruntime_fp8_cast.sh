#!/usr/bin/env bash
# onnxruntime 1.32.0, ml_dtypes 0.6.0, onnx 1.23.2 (seen 2026-11-29)
#
# ONNX's Cast from float32 to the 8-bit floats with saturate = 0 must give NaN (E4M3FN has no infinity) or
# infinity (E5M2) beyond the largest number. onnxruntime on the CPU has a hole just above it:
#
#   x                       448   464   465   479   480 .. 495.8   496   1e9
#   E4M3FN, saturate 0      448   448   nan   nan   448            nan   nan
#
#   x                       57344   61439   61440 .. 65535   65536   1e9
#   E5M2, saturate 0        57344   57344   nan              inf     inf
#
# ml_dtypes gives NaN for every x above 464, and infinity for every x from 61440 on. Below these, both agree
# on every one of the 2 million float32 numbers tried (all upper 20 bits, alone and with the lowest bit set).
#
# Why it matters: who turns saturation off wants overflow to show. An activation of 490 passes as 448, one of
# 470 does not; an overflow that should be infinite (and compare as large) is NaN, which no comparison finds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    onnxruntime==1.32.0 onnx==1.23.2 ml_dtypes==0.6.0 numpy==2.4.6 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import ml_dtypes
import numpy as np
import onnxruntime
from onnx import TensorProto, helper


def cast(x, to):
    nodes = [helper.make_node("Cast", ["x"], ["small"], to=to, saturate=0),
             helper.make_node("Cast", ["small"], ["y"], to=TensorProto.FLOAT)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 19)])
    model.ir_version = 10
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


upper = np.arange(2**20, dtype=np.uint32) << 12
x = np.concatenate([upper, upper | 1]).view(np.float32)
np.seterr(all="ignore")
for to, dtype, low, high, seen_there in ((TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn, 480, 496, 448),
                                         (TensorProto.FLOAT8E5M2, ml_dtypes.float8_e5m2, 61440, 65536, np.nan)):
    seen, wanted = cast(x, to), x.astype(dtype).astype(np.float32)
    differs = ~((seen == wanted) | (np.isnan(seen) & np.isnan(wanted)))
    hole = (np.abs(x) >= low) & (np.abs(x) < high)
    print(f"{dtype.__name__}: {differs.sum()} of {x.size} numbers differ from ml_dtypes, all within "
          f"{np.abs(x[differs]).min()} .. {np.abs(x[differs]).max()}, where onnxruntime gives "
          f"{np.unique(np.abs(seen[differs]))}")
    if not np.array_equal(differs, hole) or not np.array_equal(np.abs(seen[hole]), np.full(hole.sum(), seen_there), True):
        sys.exit(f"changed: these were the numbers from {low} to below {high}, and {seen_there}")
PYTHON
