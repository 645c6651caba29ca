#!/usr/bin/env bash
# torch 2.15.0 on a CPU, ml_dtypes 0.6.0 (seen 2026-11-29)
#
# PyTorch's conversion to float8_e4m3fn saturates, infinity included; its float8_e5m2 and its "fnuz" types
# beside it do not, and ml_dtypes (JAX, TensorFlow, numpy) gives NaN for the same type.
#
#   x                           464   465   480   1e9    inf    nan
#   torch float8_e4m3fn         448   448   448   448    448    nan
#   ml_dtypes float8_e4m3fn     448   nan   nan   nan    nan    nan
#   torch float8_e4m3fnuz       nan   nan   nan   nan    nan    nan      (its largest number is 240)
#   torch float8_e5m2           448   448   512   inf    inf    nan
#
# Why it matters: fp8 training scales tensors so that the largest value just fits and takes NaN as the sign
# that it did not. Here a scale that is too large by any factor, or a gradient that is infinite, leaves finite
# numbers; the same code with the other type, or the same tensor in JAX, shows it. Files made by the two
# differ in the overflowed elements.
set -euo pipefail
command -v gcc nm readelf > /dev/null || { echo "needs gcc and binutils" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" "$@" -q --disable-pip-version-check --only-binary :all: || exit 2; }
pip install numpy==2.4.6 ml_dtypes==0.6.0 typing_extensions==4.16.0 filelock==4.3.1 fsspec==2026.9.0 \
    jinja2==3.1.6 networkx==3.6.1 sympy==1.14.0
# PyPI's PyTorch for Linux wants CUDA's libraries even on a CPU. Empty ones in their place save 3 GB; nothing
# calls them.
pip install --no-deps torch==2.15.0
torch=$(echo "$folder"/venv/lib/python3.*/site-packages/torch/lib) cuda=$folder/cuda
mkdir "$cuda"
nm -D --undefined-only "$torch"/*.so | awk '$1 == "U" {sub(/@.*/, "", $2); print $2}' |
    grep -E '^_?_?(cu|nccl|nv)[a-zA-Z]' | sort -u | sed 's/.*/void &(void) {}/' > "$cuda/empty.c"
echo 'NVSHMEM {*;};' > "$cuda/nvshmem.map"
for name in $(readelf -d "$torch"/*.so | sed -nE 's/.*NEEDED.*\[(lib(cu|nv|nccl)[^]]*)\].*/\1/p' | sort -u); do
    versions=--default-symver
    [[ $name != libnvshmem* ]] || versions=--version-script=$cuda/nvshmem.map
    [ -e "$torch/$name" ] || gcc -w -shared -fPIC -fno-builtin "-Wl,$versions,-soname,$name" -o "$cuda/$name" "$cuda/empty.c"
done
export LD_LIBRARY_PATH=$cuda
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import ml_dtypes
import numpy as np
import torch

nan, inf = float("nan"), float("inf")
x = [464, 465, 480, 1e9, inf, nan]
wanted = {"float8_e4m3fn": [448, 448, 448, 448, 448, nan], "float8_e4m3fnuz": [nan] * 6,
          "float8_e5m2": [448, 448, 512, inf, inf, nan]}
seen = {f"torch {name}": torch.tensor(x).to(getattr(torch, name)).float().tolist() for name in wanted}
wanted = {f"torch {name}": numbers for name, numbers in wanted.items()}
with np.errstate(all="ignore"):
    small = np.array(x, np.float32).astype(ml_dtypes.float8_e4m3fn)
seen["ml_dtypes float8_e4m3fn"], wanted["ml_dtypes float8_e4m3fn"] = small.astype(float).tolist(), [448] + [nan] * 5
for name, numbers in seen.items():
    print(f"{name} of {x}: {numbers}")
    if str(numbers) != str([float(n) for n in wanted[name]]):
        sys.exit(f"changed: this was {wanted[name]}")
PYTHON
