#!/usr/bin/env bash
# safetensors 0.8.0, numpy 2.4.6 (seen 2026-11-29)
#
# safetensors.numpy.save and save_file store the wrong elements of an array that is not in C order: a
# transposed one, one in Fortran order, one with a step. The shape in the header is right, the elements are
# those that lie first in memory, and nothing is said. Version 0.7.0 stores them right.
#
#   saved                 0.7.0 gives back              0.8.0 gives back
#   [[0 1 2] [3 4 5]].T   [[0 3] [1 4] [2 5]]           [[0 1] [2 3] [4 5]]
#   in Fortran order      [[0 1 2] [3 4 5]]             [[0 3 1] [4 2 5]]
#   [:, ::2] of it        [[0 2] [3 5]]                 [[0 1] [2 3]]
#
# Why it matters: whoever converts a checkpoint with numpy writes `w.T` for the layers whose two axes change
# places. The file loads everywhere, with the right names and shapes, and the model talks nonsense.
# np.ascontiguousarray before saving.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat > "$folder/show.py" <<'PYTHON'
import sys
import numpy as np
import safetensors
import safetensors.numpy

matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
arrays = {"transposed": matrix.T, "fortran": np.asfortranarray(matrix), "step": matrix[:, ::2]}
in_memory = {"transposed": [[0, 1], [2, 3], [4, 5]], "fortran": [[0, 3, 1], [4, 2, 5]], "step": [[0, 1], [2, 3]]}
is_old = safetensors.__version__ == "0.7.0"
for name, array in arrays.items():
    path = sys.argv[1] + "/model.safetensors"
    safetensors.numpy.save_file({name: array}, path)
    for loaded in (safetensors.numpy.load_file(path), safetensors.numpy.load(safetensors.numpy.save({name: array}))):
        seen, wanted = loaded[name].tolist(), array.tolist() if is_old else in_memory[name]
        print(f"safetensors {safetensors.__version__}, {name}: {seen} for {array.tolist()}")
        if seen != wanted:
            sys.exit("changed: this was " + str(wanted))
PYTHON

for version in 0.7.0 0.8.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
        safetensors==$version numpy==2.4.6 || exit 2
    "$folder/$version/bin/python" "$folder/show.py" "$folder"
done
