#!/usr/bin/env python3
"""Compares tools/parity with the PyTorch reference: logits, selections, losses, gradients.

    python3 tests/pytorch/parity_check.py [--parity ./tools/parity] [--only NAME] [--keep DIR]

For each case: random weights go to a state dict by torch.save, ./tools/parity runs on it, and what it wrote is compared.
Float32: logits within 1e-4, every gradient within 1e-4 of its largest element. Float64: 1e-9. Masks must be equal.
Prints a line for each case with the largest differences; exits 1 when any case fails.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch

from reference import Config, Indexer, Transformer, lm_loss

TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
BASE = dict(vocab_size=61, d_model=32, n_heads=4, n_layers=2, d_ff=48, max_seq_len=64, num_experts=4, expert_top_k=2,
            indexer_heads=3, indexer_dim=16, sparse_top_k=7, load_balancing_weight=0.05)
SPARSE = dict(attention="sparse")
MLA = dict(attention_type="mla", kv_lora_rank=24, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=10)
YARN = dict(rope_scaling="yarn", rope_factor=8.0, rope_original_max_seq_len=32, rope_base=100.0, rope_beta_fast=4.0)
# name, stage, (B, T), config keys beside BASE, form of the saved file: the state dict itself or one level down
CASES = [
    ("classic", "dense", (2, 24), {}, "flat"),
    ("classic odd sizes", "dense", (3, 13), dict(d_model=30, n_heads=3, d_ff=17, num_experts=3, vocab_size=37), "nested"),
    ("classic one token", "dense", (2, 1), dict(num_experts=1, expert_top_k=1), "flat"),
    ("classic top-1 of 2, other eps and base", "dense", (2, 33),
     dict(num_experts=2, expert_top_k=1, norm_eps=1e-3, rope_base=500.0), "flat"),
    ("plain, dense stage", "dense", (2, 24), SPARSE, "flat"),
    ("plain, sparse stage", "sparse", (2, 24), SPARSE, "flat"),
    ("plain, T = 13, k > T", "sparse", (1, 13), dict(SPARSE, sparse_top_k=40), "flat"),
    # A large vocabulary, so that no token repeats: where equal tokens are equal rows in deeper layers too (with k = 1, and
    # at the start of a text), the reference, whose other products are a BLAS's, breaks their ties by rounding.
    ("plain, k = 1", "sparse", (2, 9), dict(SPARSE, sparse_top_k=1, vocab_size=4001), "nested"),
    ("plain without weights, dense stage", "dense", (2, 24), dict(SPARSE, indexer_weights="off", vocab_size=4001), "flat"),
    ("plain without weights, sparse stage", "sparse", (2, 24), dict(SPARSE, indexer_weights="off", vocab_size=4001), "flat"),
    ("plain, indexer_scale 0.3, odd sizes", "sparse", (3, 37),
     dict(SPARSE, indexer_scale=0.3, indexer_heads=1, indexer_dim=5, d_model=30, n_heads=5, d_ff=11), "flat"),
    ("plain, warm-up by entropy", "dense", (2, 37), dict(SPARSE, indexer_warmup="entropy"), "flat"),
    ("mla, query latent, deepseek, warm-up by entropy", "dense", (1, 131),
     dict(SPARSE, **MLA, q_lora_rank=20, indexer="deepseek", indexer_warmup="entropy", max_seq_len=131), "flat"),
    ("plain, loss over full rows", "sparse", (2, 37), dict(SPARSE, indexer_loss="full_row"), "flat"),
    ("mla, query latent, deepseek, loss over full rows", "sparse", (1, 131),
     dict(SPARSE, **MLA, q_lora_rank=20, indexer="deepseek", indexer_loss="full_row", max_seq_len=131), "flat"),
    ("deepseek, dense stage", "dense", (2, 24), dict(SPARSE, indexer="deepseek"), "flat"),
    ("deepseek, sparse stage", "sparse", (2, 24), dict(SPARSE, indexer="deepseek"), "flat"),
    ("deepseek, T = 67, dI = 20", "sparse", (1, 67), dict(SPARSE, indexer="deepseek", indexer_dim=20, max_seq_len=67),
     "nested"),
    ("plain, T = 131 over many tiles", "sparse", (1, 131), dict(SPARSE, sparse_top_k=32, max_seq_len=131), "flat"),
    ("plain, T = 131 over many tiles, dense stage", "dense", (1, 131), dict(SPARSE, max_seq_len=131), "flat"),
    ("gqa", "dense", (2, 24), dict(attention_type="gqa", n_kv_heads=2), "flat"),
    ("gqa, one key head, plain, sparse stage", "sparse", (2, 37), dict(SPARSE, attention_type="gqa", n_kv_heads=1), "flat"),
    ("gqa, deepseek, dense stage", "dense", (1, 24), dict(SPARSE, indexer="deepseek", attention_type="gqa"), "flat"),
    ("mla", "dense", (2, 24), MLA, "flat"),
    ("mla, query latent, odd sizes", "dense", (3, 13),
     dict(attention_type="mla", n_heads=3, q_lora_rank=11, kv_lora_rank=13, qk_nope_head_dim=7, qk_rope_head_dim=6,
          v_head_dim=9), "nested"),
    ("mla, plain, dense stage", "dense", (2, 24), dict(SPARSE, **MLA), "flat"),
    ("mla, plain, sparse stage", "sparse", (2, 37), dict(SPARSE, **MLA), "flat"),
    ("mla, query latent, plain, sparse stage", "sparse", (2, 24), dict(SPARSE, **MLA, q_lora_rank=20), "flat"),
    ("mla, query latent, deepseek, dense stage", "dense", (2, 24),
     dict(SPARSE, **MLA, q_lora_rank=20, indexer="deepseek"), "flat"),
    ("mla, query latent, deepseek, sparse stage", "sparse", (2, 37),
     dict(SPARSE, **MLA, q_lora_rank=20, indexer="deepseek"), "flat"),
    ("mla, deepseek, T = 131 over many tiles, k = 16", "sparse", (1, 131),
     dict(SPARSE, **MLA, indexer="deepseek", sparse_top_k=16, max_seq_len=131), "flat"),
    ("DeepSeek-V3.2: mla, swiglu, sigmoid_bias, shared, deepseek", "sparse", (2, 31),
     dict(SPARSE, **MLA, q_lora_rank=20, indexer="deepseek", ffn="swiglu", router="sigmoid_bias", shared_experts=1,
          routed_scaling_factor=2.5), "flat"),
    ("top k per layer", "sparse", (2, 24), dict(SPARSE, sparse_top_k=[3, 9]), "flat"),
    ("the original's leak", "sparse", (2, 24), dict(SPARSE, i_know_this_leaks=True), "flat"),
    ("the original's leak, k = 1", "sparse", (2, 9),
     dict(SPARSE, i_know_this_leaks=True, sparse_top_k=1, vocab_size=4001), "flat"),
    ("the original's leak, k > T, gqa, deepseek, odd sizes", "sparse", (3, 13),
     dict(SPARSE, i_know_this_leaks=True, sparse_top_k=40, attention_type="gqa", n_kv_heads=2, indexer="deepseek"), "flat"),
    ("the original's leak, mla, top k per layer, T = 67", "sparse", (1, 67),
     dict(SPARSE, **MLA, i_know_this_leaks=True, sparse_top_k=[32, 11], max_seq_len=67), "nested"),
    ("the original's leak, dense stage", "dense", (2, 24), dict(SPARSE, i_know_this_leaks=True), "flat"),
    ("swiglu", "dense", (2, 24), dict(ffn="swiglu", d_ff=19), "flat"),
    ("shared experts", "dense", (2, 13), dict(shared_experts=2, d_ff=11), "flat"),
    ("sigmoid_bias", "dense", (2, 24), dict(router="sigmoid_bias", routed_scaling_factor=2.5), "flat"),
    ("sigmoid_bias, top-1 of 3, swiglu, shared, gqa, sparse stage", "sparse", (2, 31),
     dict(SPARSE, router="sigmoid_bias", num_experts=3, expert_top_k=1, ffn="swiglu", shared_experts=1,
          attention_type="gqa"), "nested"),
    ("router_weights all, top-1 of 2", "dense", (2, 24),
     dict(router_weights="all", num_experts=2, expert_top_k=1, load_balancing_weight=0.0), "flat"),
    ("router_weights scaled, top-2 of 3, sparse stage", "sparse", (2, 24),
     dict(SPARSE, router_weights="scaled", num_experts=3), "flat"),
    ("router_weights straight_through, top-1 of 3", "dense", (2, 24),
     dict(router_weights="straight_through", num_experts=3, expert_top_k=1, load_balancing_weight=0.0), "flat"),
    ("router_weights straight_through, top-2 of 4", "dense", (2, 24), dict(router_weights="straight_through"), "flat"),
    ("an own head", "dense", (2, 24), dict(tie_embeddings=False), "flat"),
    ("an own head, plain, sparse stage", "sparse", (3, 13), dict(SPARSE, tie_embeddings=False), "nested"),
    ("a dense layer, then experts", "dense", (2, 24), dict(ffn_layers="DM", dense_d_ff=37), "flat"),
    ("experts, then a dense layer, swiglu, sparse stage", "sparse", (2, 24),
     dict(SPARSE, ffn_layers="MD", ffn="swiglu"), "flat"),
    ("dense layers alone", "dense", (2, 24), dict(ffn_layers="DD"), "flat"),
    ("sigmoid_bias, weights as they are", "dense", (2, 24),
     dict(router="sigmoid_bias", routed_scaling_factor=2.5, norm_topk_prob=False), "flat"),
    ("sigmoid_bias, weights as they are, top-1", "dense", (2, 24),
     dict(router="sigmoid_bias", norm_topk_prob=False, expert_top_k=1), "flat"),
    ("sigmoid_bias, 2 of 4 groups of 3, top-4", "dense", (2, 33),
     dict(router="sigmoid_bias", num_experts=12, n_group=4, topk_group=2, expert_top_k=4), "flat"),
    ("sigmoid_bias, 1 of 3 groups of 2", "dense", (2, 33),
     dict(router="sigmoid_bias", num_experts=6, n_group=3, topk_group=1, norm_topk_prob=False), "flat"),
    ("yarn", "dense", (2, 37), dict(YARN), "flat"),
    ("yarn, gqa, magnitudes, deepseek, sparse stage", "sparse", (2, 37),
     dict(SPARSE, **YARN, rope_mscale=0.7, rope_mscale_all_dim=1.5, attention_type="gqa", indexer="deepseek"), "flat"),
    ("yarn, mla, scaled scores, deepseek, dense stage", "dense", (2, 37),
     dict(SPARSE, **{**MLA, "qk_rope_head_dim": 8}, **YARN, rope_mscale_all_dim=1.0, q_lora_rank=20, indexer="deepseek"),
     "flat"),
    ("deepseek, interleaved over 6 of 20 dims", "sparse", (2, 37),
     dict(SPARSE, indexer="deepseek", indexer_dim=20, indexer_rope_dim=6, indexer_rope_layout="interleaved"), "flat"),
    ("deepseek, all dims rotated, dense stage", "dense", (2, 37),
     dict(SPARSE, indexer="deepseek", indexer_dim=10, indexer_rope_dim=10), "flat"),
    ("mla, epsilon of the latents", "dense", (2, 24), dict(MLA, q_lora_rank=20, latent_norm_eps=0.3), "flat"),
    ("mla, biases", "dense", (2, 24), dict(MLA, attention_bias=True), "flat"),
    ("mla, query latent, biases, deepseek, sparse stage", "sparse", (2, 37),
     dict(SPARSE, **MLA, q_lora_rank=20, attention_bias=True, indexer="deepseek"), "flat"),
    ("indexers shared", "sparse", (2, 37), dict(SPARSE, n_layers=4, index_share="FSFS"), "flat"),
    ("GLM with everything", "sparse", (2, 37),
     dict(SPARSE, **{**MLA, "qk_rope_head_dim": 8}, **YARN, rope_mscale=0.5, rope_mscale_all_dim=1.0, n_layers=4,
          index_share="FFSS", ffn_layers="DMMM", dense_d_ff=37, q_lora_rank=20, attention_bias=True, latent_norm_eps=1e-3,
          tie_embeddings=False, indexer="deepseek", indexer_rope_dim=8, indexer_rope_layout="interleaved", ffn="swiglu",
          router="sigmoid_bias", shared_experts=1, routed_scaling_factor=2.5, norm_topk_prob=False, num_experts=6,
          n_group=3, topk_group=2, expert_top_k=3), "flat"),
    ("equal tokens tie", "sparse", (2, 21), dict(SPARSE, sparse_top_k=4, vocab_size=2, n_layers=1), "flat"),
]


def build_model(config, dtype, seed):
    """Random weights everywhere, norms too, of a size at which every term matters."""
    torch.manual_seed(seed)
    model = Transformer(config).to(getattr(torch, dtype))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.copy_(("bias" not in name) + 0.3 * torch.randn(p.shape))
            else:
                p.copy_(torch.randn(p.shape) * (0.5 if name == "embed.weight" else p.shape[1] ** -0.5))
        for b in model.buffers():
            b.copy_(0.2 * torch.randn(b.shape))
    return model.eval()


def run_reference(model, tokens, targets, stage):
    out = model(tokens, stage)
    lm = lm_loss(out["logits"], targets)
    # The two losses reach disjoint parameters, so one backward over their sum gives both gradients.
    total = lm + out["load_balancing"] + (out["indexer_kl"] if out["indexer_kl"] is not None else 0)
    total.backward()
    losses = dict(lm=lm.item(), load_balancing=out["load_balancing"].item())
    if out["indexer_kl"] is not None:
        losses["indexer_kl"] = out["indexer_kl"].item()
    gradients = {name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in model.named_parameters()}
    return out["logits"].detach(), [mask.numpy() for mask in out["selected"]], losses, gradients


def write_inputs(folder, model, config, tokens, targets, form):
    state = model.state_dict()
    torch.save(state if form == "flat" else {"model_state_dict": state, "step": 3}, os.path.join(folder, "W.pt"))
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(vars(config), file)
    np.save(os.path.join(folder, "tokens.npy"), tokens.numpy())
    np.save(os.path.join(folder, "targets.npy"), targets.numpy())


def run_parity(program, folder, stage, dtype):
    inputs = [f"--{key}={os.path.join(folder, name)}" for key, name in
              (("checkpoint", "W.pt"), ("config", "config.json"), ("tokens", "tokens.npy"), ("targets", "targets.npy"))]
    out = os.path.join(folder, "out")
    done = subprocess.run([program, *inputs, f"--stage={stage}", f"--dtype={dtype}", f"--out={out}"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if done.returncode != 0:
        raise RuntimeError(f"{program} ended with {done.returncode}: {done.stdout.strip()}")
    return out


def difference(got, want):
    """max |got - want| / max |want|: the scale is the tensor's largest element."""
    got, want = torch.as_tensor(got).double(), torch.as_tensor(want).double()
    if got.shape != want.shape:
        raise RuntimeError(f"shape {tuple(got.shape)}, want {tuple(want.shape)}")
    if got.numel() == 0:
        return 0.0
    worst = (got - want).abs().max().item()
    return worst / max(want.abs().max().item(), 1e-30) if worst > 0 else worst


def compare_gradients(got, want):
    """The largest relative difference and its parameter. A gradient that vanishes (an indexer behind k = 1, the gate
    of a single expert) has no scale of its own: what rounding leaves of terms of size 1 is measured against 0.01."""
    worst, worst_name = 0.0, "-"
    for name, gradient in want.items():
        if name not in got:
            if gradient.abs().max() == 0:
                continue
            raise RuntimeError(f"grads.pt has no gradient for {name}")
        if gradient.abs().max() < 1e-6:
            found = (got[name].double() - gradient.double()).abs().max().item() / 0.01
        else:
            found = difference(got[name], gradient)
        if not found <= worst:
            worst, worst_name = found, name
    unknown = set(got) - set(want)
    if unknown:
        raise RuntimeError(f"grads.pt has gradients for {sorted(unknown)}, which the reference does not")
    return worst, worst_name


def rows_that_differ(got, mask, scores, dtype):
    """Rows of a selection that differ beyond rounding. In float32 PyTorch's own products are not row invariant: keys
    that tie exactly (equal tokens) can differ in its last bits, and then either choice is right."""
    slack = 1e-5 if dtype == "float32" else 0.0
    count = 0
    for b, t in zip(*np.nonzero((got != mask).any(-1))):
        row = scores[b, t, :t + 1]
        ours = np.sort(row[got[b, t, :t + 1]])
        theirs = np.sort(row[mask[b, t, :t + 1]])
        same = (not got[b, t, t + 1:].any() and ours.shape == theirs.shape
                and np.abs(ours - theirs).max() <= slack * max(np.abs(row).max(), 1e-30))
        count += not same
    return count


def check_case(program, case, dtype, seed, folder):
    name, stage, (batch, length), keys, form = case
    config = Config(**{**BASE, **keys})
    model = build_model(config, dtype, seed)
    tokens = torch.randint(config.vocab_size, (batch, length))
    targets = torch.randint(config.vocab_size, (batch, length))
    write_inputs(folder, model, config, tokens, targets, form)
    out = run_parity(program, folder, stage, dtype)
    scores = []
    for module in model.modules():
        if isinstance(module, Indexer):
            module.register_forward_hook(lambda m, given, result: scores.append(result.detach().numpy()))
    logits, selected, losses, gradients = run_reference(model, tokens, targets, stage)

    logits_error = np.abs(np.load(os.path.join(out, "logits.npy")).astype(np.float64) - logits.numpy()).max()
    rows_apart = 0
    for i, mask in enumerate(selected):
        got = np.load(os.path.join(out, f"selected_{i}.npy"))
        if got.dtype != bool or got.shape != mask.shape:
            raise RuntimeError(f"selected_{i}.npy is {got.dtype} {got.shape}, want bool {mask.shape}")
        if config.index_share[i:i + 1] != "S":
            own = scores.pop(0)
        rows_apart += rows_that_differ(got, np.asarray(mask), own, dtype)
    with open(os.path.join(out, "losses.json")) as file:
        got_losses = json.load(file)
    loss_error = max(abs(got_losses[key] - want) / max(abs(want), 1) for key, want in losses.items())
    got_gradients = torch.load(os.path.join(out, "grads.pt"))
    gradient_error, gradient_name = compare_gradients(got_gradients, gradients)

    limit = TOLERANCE[dtype]
    good = logits_error <= limit and loss_error <= limit and gradient_error <= limit and rows_apart == 0
    selection = f"selection {rows_apart} rows differ" if selected else "no selection"
    print(f"{'ok  ' if good else 'FAIL'} {dtype} {name}: logits {logits_error:.1e}, losses {loss_error:.1e}, "
          f"gradients {gradient_error:.1e} ({gradient_name}), {selection}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser.add_argument("--parity", default=os.path.join(root, "tools", "parity"))
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    parser.add_argument("--dtype", choices=["float32", "float64", "both"], default="both")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", help="keep the files of the last case in this folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dtypes = ["float32", "float64"] if arguments.dtype == "both" else [arguments.dtype]
    passed = failed = 0
    for case in CASES:
        for dtype in dtypes:
            if arguments.only not in case[0]:
                continue
            with tempfile.TemporaryDirectory() as temporary:
                folder = arguments.keep or temporary
                os.makedirs(folder, exist_ok=True)
                try:
                    good = check_case(arguments.parity, case, dtype, arguments.seed, folder)
                except (RuntimeError, OSError, KeyError) as error:
                    print(f"FAIL {dtype} {case[0]}: {error}", flush=True)
                    good = False
            passed, failed = passed + good, failed + (not good)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
