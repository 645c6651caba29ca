#!/usr/bin/env bash
# onnx 1.23.2 (its ReferenceEvaluator), onnxruntime 1.32.0 (seen 2026-11-30)
#
# NegativeLogLikelihoodLoss without weights, reduction "mean", and some targets equal to ignore_index: the mean is
# taken over the other targets, except in the reference evaluator when ignore_index is -1. There the ignored
# targets count as losses of 0.
#
#   two targets of 1.386, two ignored     -100    -2      -1      5
#   onnxruntime                           1.386   1.386   1.386   1.386
#   onnx.reference                        1.386   1.386   0.693   1.386
#   its SoftmaxCrossEntropyLoss           1.386   1.386   1.386   1.386
#   sums, and means with weights of 1, agree everywhere
#
# Why it matters: -1 is what many language models pad with. The loss of the reference shrinks with the share of
# padding, the runtime's does not, and the exported graph looks wrong in the one batch that has padding.
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

log_p = np.log(np.array([[0.5, 0.25, 0.25]] * 4, np.float32))
one, half = 1.3862944, 0.6931472


def losses(op, ignored, weighted, reduction):
    kinds = [("x", TensorProto.FLOAT, [4, 3]), ("target", TensorProto.INT64, [4])]
    feed = {"x": log_p, "target": np.array([2, 2, ignored, ignored], np.int64)}
    if weighted:
        kinds.append(("weight", TensorProto.FLOAT, [3]))
        feed["weight"] = np.ones(3, np.float32)
    node = helper.make_node(op, list(feed), ["y"], ignore_index=ignored, reduction=reduction)
    model = helper.make_model(
        helper.make_graph([node], "g", [helper.make_tensor_value_info(*kind) for kind in kinds],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])]),
        opset_imports=[helper.make_opsetid("", 22)])
    model.ir_version = 10
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return float(session.run(None, feed)[0]), float(ReferenceEvaluator(model).run(None, feed)[0])


for op in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"):
    for weighted in (False, True):
        for ignored in (-100, -2, -1, 5):
            runtime, reference = losses(op, ignored, weighted, "mean")
            sums = losses(op, ignored, weighted, "sum")
            print(f"{op}, ignore_index {ignored}, {'weights of 1' if weighted else 'no weights'}: "
                  f"onnxruntime {runtime:.4f}, onnx.reference {reference:.4f}")
            odd = op[0] == "N" and ignored == -1 and not weighted
            if not np.allclose([runtime, reference, *sums], [one, half if odd else one, 2 * one, 2 * one]):
                sys.exit(f"changed: {runtime} {reference} {sums}")
PYTHON
