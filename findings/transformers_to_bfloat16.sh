#!/usr/bin/env bash
# transformers 5.24.0, torch 2.15.0 on a CPU (seen 2026-11-29)
#
# Two ways to a bfloat16 model that give different models. from_pretrained(..., dtype=torch.bfloat16) keeps
# the frequencies of RoPE, the router's weights and its bias in float32;
# from_pretrained(...).to(torch.bfloat16) rounds them too, and save_pretrained then stores the rounded router.
# Same for deepseek_v32, glm_moe_dsa; the frequencies for llama as well.
#
#   64 rotated dims, theta 10000        dtype=torch.bfloat16    .to(torch.bfloat16)
#   inv_freq                            float32                 bfloat16
#   largest error of an angle at 4096   0                       1.79 rad
#   gate.weight, e_score_correction_bias in the saved file   F32    BF16
#
# Why it matters: the start of a text looks right, the error grows with the position. With sparse attention
# the indexer's keys are turned by the same wrong angles, so other tokens are selected; and a bias that
# balances experts in steps of 0.001 does not survive 8 bits. Compare an implementation of one's own with a
# model loaded by dtype=.
set -euo pipefail
command -v gcc nm readelf > /dev/null || { echo "needs gcc and binutils" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" "$@" -q --disable-pip-version-check --only-binary :all: || exit 2; }
pip install transformers==5.24.0 safetensors==0.8.0 numpy==2.4.6 networkx==3.6.1 sympy==1.14.0 jinja2==3.1.6
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
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON' 2>"$folder/stderr" || { cat "$folder/stderr" >&2; exit 1; }
import sys
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

small = dict(vocab_size=64, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=64,
             intermediate_size=64)
dsa = dict(small, moe_intermediate_size=32, n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, q_lora_rank=16,
           kv_lora_rank=16, qk_nope_head_dim=16, qk_rope_head_dim=64, v_head_dim=16, index_n_heads=2, index_head_dim=128,
           index_topk=4, n_group=1, topk_group=1, first_k_dense_replace=0, mlp_layer_types=["sparse"])
for kind, sizes in (("deepseek_v32", dsa), ("glm_moe_dsa", dsa), ("llama", small)):
    path, again = f"{sys.argv[1]}/{kind}", f"{sys.argv[1]}/{kind}_again"
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes))
    model.save_pretrained(path)
    exact = model.model.rotary_emb.inv_freq.double()
    ways = {"dtype=": AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16),
            ".to()": AutoModelForCausalLM.from_pretrained(path).to(torch.bfloat16)}
    for way, wanted in (("dtype=", [torch.float32, 0.0, "F32"]), (".to()", [torch.bfloat16, 1.79, "BF16"])):
        ways[way].save_pretrained(again)
        frequencies = ways[way].model.rotary_emb.inv_freq
        with safe_open(again + "/model.safetensors", "pt") as file:
            stored = {file.get_slice(name).get_dtype() for name in file.keys() if ".mlp.gate." in name}
        error = round((frequencies.double() - exact).abs().max().item() * 4096, 2)
        print(f"{kind}, {way}: inv_freq {frequencies.dtype}, an angle at 4096 is off by {error}, router stored as {stored}")
        if [frequencies.dtype, error] != wanted[:2] or stored != ({wanted[2]} if sizes is dsa else set()):
            sys.exit(f"changed: this was {wanted}")
PYTHON
