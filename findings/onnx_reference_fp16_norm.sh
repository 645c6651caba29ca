#!/usr/bin/env bash
# onnx 1.23.2 (its ReferenceEvaluator), onnxruntime 1.32.0 (seen 2026-11-29)
#
# LayerNormalization and RMSNormalization have an attribute stash_type, float32 by default: the mean and the
# variance of float16 rows are to be computed in float32. The reference evaluator squares in float16 all the
# same. One element of 256 is enough: its square is infinite, and the whole row comes out as zeros.
#
#   [1 -2 3 -1 2 -3 1 2] * 100, float16     RMSNormalization            LayerNormalization
#   onnxruntime                             [0.492 -0.985 1.478 ...]    [0.313 -1.189 1.315 ...]
#   onnx.reference                          [0 -0 0 ...]                [0 -0 0 ...]
#   at a scale of 1 the two agree to the last bit
#
# Why it matters: the reference is what an exported model is compared with. Residual streams of float16 models
# do reach such values; the model is then blamed for what the reference does. Compare in float32.
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

np.seterr(all="ignore")
for op, opset in (("RMSNormalization", 23), ("LayerNormalization", 17)):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape) for name, shape in
            (("x", [1, 8]), ("scale", [8]), ("y", [1, 8]))]
    node = helper.make_node(op, ["x", "scale"], ["y"], stash_type=TensorProto.FLOAT)
    model = helper.make_model(helper.make_graph([node], "g", ends[:2], ends[2:]),
                              opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 11
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for size in (1, 100):
        x = (np.array([[1, -2, 3, -1, 2, -3, 1, 2]]) * size).astype(np.float16)
        feed = {"x": x, "scale": np.ones(8, np.float16)}
        runtime, reference = session.run(None, feed)[0], ReferenceEvaluator(model).run(None, feed)[0]
        exact = x.astype(np.float64) - (x.astype(np.float64).mean() if op[0] == "L" else 0)
        exact /= np.sqrt((exact**2).mean())
        print(f"{op} at {size}: onnxruntime {runtime[0, :3]}, onnx.reference {reference[0, :3]}, float64 {exact[0, :3]}")
        if np.abs(runtime - exact).max() > 2e-3:
            sys.exit("changed: onnxruntime was right")
        if not (np.array_equal(runtime, reference) if size == 1 else (reference == 0).all()):
            sys.exit("changed: the reference gave the same at 1, zeros at 100")
PYTHON
