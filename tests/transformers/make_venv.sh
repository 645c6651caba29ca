#!/bin/sh
# Installs transformers, and PyTorch for it, from PyPI into a virtual environment (transformers_check.py):
#
#   tests/transformers/make_venv.sh FOLDER          # then: FOLDER/bin/python
#
# That is what importing DeepSeek's and GLM's models takes, and no more: 1.2 GB from there, 2 GB on the disk. PyPI's
# PyTorch for Linux is linked with the CUDA libraries even where it runs on the CPU. The large ones are those of an
# installed CUDA toolkit 13 with cuDNN; on a machine without them this ends with an error, as all of them are 5 GB.
set -e
folder=${1:?usage: make_venv.sh FOLDER}
/usr/bin/python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps --no-compile \
    --retries 1 --timeout 20 \
    torch==2.15.0 nvidia-cufile nvidia-cusparselt-cu13==0.8.1 nvidia-nccl-cu13==2.30.7 nvidia-nvshmem-cu13==3.7.2 \
    filelock fsspec jinja2 markupsafe mpmath networkx sympy typing-extensions \
    transformers==5.24.0 huggingface-hub==2.4.0 h11 httpcore2 httpx2 idna truststore \
    numpy packaging pyyaml regex safetensors tokenizers==0.23.3 tqdm
"$folder/bin/python" -c 'import torch, transformers' 2> /dev/null ||
    { echo "$folder: PyTorch cannot be loaded; it takes a CUDA toolkit 13 with cuDNN" >&2 && exit 1; }
