#!/usr/bin/env bash
# onnx 1.23.2 (its ReferenceEvaluator), onnxruntime 1.32.0 (seen 2026-11-30)
#
# The Attention operator can also give its scores: qk_matmul_output_mode 0 the products of queries and keys, 1
# those after softcap, 2 with the mask, 3 the probabilities. With a softcap the two implementations differ in two
# of the four:
#
#   one head, two queries, causal, softcap 1     onnxruntime            onnx.reference
#   mode 0, a product of 1.5                     1.5                    0.905 = tanh(1.5), mode 1's
#   mode 2, a key of the future                  -3.4e38                -inf
#   modes 1 and 3, and the output itself         agree
#
# For mode 0 onnxruntime is what the operator's text says. For mode 2 the text does not say what stands for a key
# that may not be read: exp gives 0 for both, a difference of two scores gives NaN for the one only.
#
# Why it matters: these scores are what one draws, and what an indexer's alignment loss is compared with. Checked
# against the reference, a right exporter looks wrong, and capped scores pass for raw ones.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

query = np.array([1.5, -0.5], np.float32).reshape(1, 1, 2, 1)
key = np.array([1, 2], np.float32).reshape(1, 1, 2, 1)
raw = np.array([[1.5, 3.0], [-0.5, -1.0]])
lowest = float(np.finfo(np.float32).min)
for mode, runtime_wants, reference_wants in (
        (0, raw, np.tanh(raw)),
        (1, np.tanh(raw), np.tanh(raw)),
        (2, np.where([[0, 1], [0, 0]], lowest, np.tanh(raw)), np.where([[0, 1], [0, 0]], -np.inf, np.tanh(raw))),
        (3, None, None)):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 2, n])
            for name, n in (("q", 1), ("k", 1), ("v", 1), ("y", 1), ("scores", 2))]
    node = helper.make_node("Attention", ["q", "k", "v"], ["y", "", "", "scores"], is_causal=1, scale=1.0,
                            softcap=1.0, qk_matmul_output_mode=mode)
    model = helper.make_model(helper.make_graph([node], "g", ends[:3], ends[3:]),
                              opset_imports=[helper.make_opsetid("", 24)])
    model.ir_version = 10
    feed = {"q": query, "k": key, "v": key}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y, runtime), (y_reference, reference) = session.run(None, feed), ReferenceEvaluator(model).run(None, feed)
    print(f"mode {mode}: onnxruntime {runtime.ravel()}, onnx.reference {reference.ravel()}")
    if not np.allclose(y, y_reference, atol=1e-6):
        sys.exit("changed: the outputs agreed")
    if mode == 3:
        runtime_wants, reference_wants = reference, reference
    if not (np.allclose(runtime, runtime_wants, rtol=1e-6) and np.allclose(reference, reference_wants, rtol=1e-6)):
        sys.exit(f"changed: wanted {runtime_wants.ravel()} and {reference_wants.ravel()}")
PYTHON
