#!/usr/bin/env python3
"""Checks an ONNX file with onnx's full checker, runs it in ONNX Runtime, and prints how far its logits are from given
ones, one line a case:

    python3 tests/onnx/check_onnx.py model.onnx CASES_FOLDER

CASES_FOLDER holds tokens_0.npy [B,T], logits_0.npy [B*T,V], tokens_1.npy, ... The exit status is 0 when the file is
valid and ran; judging the differences is left to the caller.
"""
import os
import sys

import numpy as np
import onnx
import onnxruntime


def main(path, folder):
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names), "node names repeat"
    for value in (model.graph.input[0], model.graph.output[0]):
        dims = value.type.tensor_type.shape.dim
        assert [dims[0].dim_param, dims[1].dim_param] == ["batch", "sequence"]
    print("metadata", *sorted(entry.key for entry in model.metadata_props))
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for i in range(len(os.listdir(folder)) // 2):
        tokens = np.load(f"{folder}/tokens_{i}.npy").astype(np.int64)
        wanted = np.load(f"{folder}/logits_{i}.npy")
        wanted = wanted.reshape(*tokens.shape, wanted.shape[-1])
        logits, = session.run(None, {"tokens": tokens})
        assert logits.shape == wanted.shape, (logits.shape, wanted.shape)
        print("difference", abs(logits - wanted).max(initial=0), abs(wanted).max(initial=0), tokens.shape)


if __name__ == "__main__":
    main(*sys.argv[1:])
