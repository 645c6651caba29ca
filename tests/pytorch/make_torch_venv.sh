#!/bin/sh
# Installs the newest PyTorch from PyPI into a virtual environment, and, where Debian's OpenBLAS of the pthread kind is
# not installed, unpacks it beside it (what a plain `apt-get install python3-torch` runs on; bench_side_by_side.py):
#
#   tests/pytorch/make_torch_venv.sh FOLDER          # then: FOLDER/bin/python
#
# PyPI's wheel for Linux wants the CUDA libraries even for the CPU. The large ones are taken from an installed CUDA toolkit
# when there is one that fits; otherwise, and on a machine with a GPU, all of its packages are installed (5 GB).
set -e
folder=${1:?usage: make_torch_venv.sh FOLDER}
/usr/bin/python3 -m venv "$folder"
pip() { "$folder/bin/python" -m pip "$@" --quiet --no-cache-dir --disable-pip-version-check; }
works() { "$folder/bin/python" -c 'import torch' 2>/dev/null; }

if [ -e /usr/local/cuda/lib64/libcudnn.so ] && [ ! -e /dev/nvidia0 ]; then
    pip install --no-deps torch numpy
    # All that this torch asks for, without the parts of a CUDA toolkit and the compiler for GPUs.
    "$folder/bin/python" - > "$folder/requirements.txt" <<'PYTHON'
from importlib.metadata import requires
for line in requires("torch"):
    name = line.split(";")[0].strip()
    if "extra ==" not in line and not name.startswith(("cuda-", "nvidia-cudnn", "triton")):
        print(name)
print("nvidia-cufile")
PYTHON
    # pip complains about what was left out on purpose.
    pip install -r "$folder/requirements.txt" 2> /dev/null || true
    works || echo "the installed CUDA toolkit does not fit this PyTorch: installing all of its packages" >&2
fi
works || pip install torch numpy

if [ ! -d /usr/lib/x86_64-linux-gnu/openblas-pthread ] && [ ! -d "$folder/openblas-pthread" ]; then
    unpacked=$(mktemp -d)
    trap 'rm -rf "$unpacked"' EXIT
    chmod 755 "$unpacked"
    (cd "$unpacked" && apt-get download -q libopenblas0-pthread && dpkg -x libopenblas0-pthread_*.deb .) &&
        cp -r "$unpacked/usr/lib/x86_64-linux-gnu/openblas-pthread" "$folder/" ||
        echo "libopenblas0-pthread could not be fetched: bench_side_by_side.py will leave \`stock\` out" >&2
fi
"$folder/bin/python" -c 'import torch; print("torch", torch.__version__, "in", "'"$folder"'")'
