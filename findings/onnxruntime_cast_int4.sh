#!/usr/bin/env bash
# onnxruntime 1.32.0 on a CPU, onnx 1.23.2 (seen 2026-11-30)
#
# ONNX's Cast from a floating-point number to an integer drops the fraction. onnxruntime does so for 8 bits and
# more; for 4 and 2 bits it rounds to the nearest, halves away from zero.
#
#   float32 x              0.5   1.5   2.5   -0.5   -1.5   0.3   -1.7
#   to INT8 (and wider)    0     1     2     0      -1     0     -1
#   to INT4                1     2     3     -1     -2     0     -2
#   onnx.reference, INT4   0     1     2     0      -1     0     -1
#
# UINT4 and UINT2 round alike, and -0.5 becomes their largest number: 15, 3. There 1.5 in 2 bits is 2, and as INT2,
# which ends at 1, -2.
#
# Why it matters: who packs weights that were rounded first sees nothing; who writes Cast(x / scale) gets other 4-bit
# weights than 8-bit ones of the same numbers, and than the reference. And a mask or an index that went through 2
# bits can turn over. Round in the graph (Round rounds halves to even), or use QuantizeLinear.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    onnxruntime==1.32.0 onnx==1.23.2 ml_dtypes==0.6.0 numpy==2.4.6 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.3, -1.7], np.float32)
dropped, rounded = np.trunc(x), np.trunc(x + np.copysign(0.5, x))


def wrapped(values, bits, signed):
    values = values.astype(np.int64) % 2**bits
    return np.where(values >= 2**(bits - 1), values - 2**bits, values) if signed else values


for bits, names in ((32, ["INT32"]), (16, ["INT16"]), (8, ["INT8"]), (4, ["INT4", "UINT4"]),
                    (2, ["INT2", "UINT2"])):
    for name in names:
        ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [len(x)]) for end in "xy"]
        nodes = [helper.make_node("Cast", ["x"], ["whole"], to=getattr(TensorProto, name)),
                 helper.make_node("Cast", ["whole"], ["y"], to=TensorProto.FLOAT)]
        model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]),
                                  opset_imports=[helper.make_opsetid("", 25)])
        model.ir_version = 11
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        runtime, reference = session.run(None, {"x": x})[0], ReferenceEvaluator(model).run(None, {"x": x})[0]
        print(f"{name}: onnxruntime {runtime}, onnx.reference {reference}")
        signed = name[0] == "I"
        wants = (wrapped(rounded if bits < 8 else dropped, bits, signed), wrapped(dropped, bits, signed))
        if not (np.array_equal(runtime, wants[0]) and np.array_equal(reference, wants[1])):
            sys.exit(f"changed: these were {wants[0]} and {wants[1]}")
PYTHON
