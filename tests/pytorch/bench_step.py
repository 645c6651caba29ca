#!/usr/bin/env python3
"""Times training steps (forward, backward, optimiser) of the PyTorch reference, in this process, with whatever BLAS and
malloc the environment gave it, and says which. bench_side_by_side.py runs it beside our own program.

    python3 tests/pytorch/bench_step.py --attention classic --steps 10

Attentions: `classic` is the materialised one of the original experiment, classic_fused F.scaled_dot_product_attention
where this PyTorch has it; `sparse` masks a dense one, as the original does; `sparse_gathered` gathers the selected keys;
`sparse_flex` gives the selection to flex_attention, for a GPU. Dropout and router noise on. Tokens are random, new ones
for each step, unless they are given.

--precision: tf32 on a GPU; bf16 is autocast; medium is float32_matmul_precision("medium"), with which a CPU may round the
operands of float32 products to bfloat16. --device cuda was written without a GPU to run it on.
"""
import argparse
import json
import math
import os
import statistics
import sys
import time

ATTENTIONS = ("classic", "classic_fused", "sparse", "sparse_gathered", "sparse_flex")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=["small", "medium", "large"], default="medium")
    parser.add_argument("--attention", choices=ATTENTIONS, default="classic")
    parser.add_argument("--seq_len", type=int, default=0, help="0: the preset's")
    parser.add_argument("--batch_size", type=int, default=0, help="0: the preset's")
    parser.add_argument("--top_k", type=int, default=0, help="0: the preset's")
    parser.add_argument("--vocab_size", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--steps", type=int, default=10, help="timed steps, after two that are not")
    parser.add_argument("--timed_seconds", type=float, default=math.inf,
                        help="begin no further timed step after so many seconds, but time at least two")
    parser.add_argument("--max_seconds_per_step", type=float, default=math.inf, help="give up after a slower step")
    parser.add_argument("--optimizer", choices=["adamw", "muon"], default="adamw", help="muon: AdamW for the rest")
    parser.add_argument("--inputs", help="start from this folder's model.pt, and take its tokens.npy and targets.npy")
    parser.add_argument("--write_inputs", help="write such a folder, and end")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16", "medium"], default="fp32")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model (PyTorch 2)")
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error("--steps must be at least 1")
    return arguments


def openblas_kernel():
    """The machine that the loaded OpenBLAS takes this one for ("Zen", "SkylakeX", ...), or None without an OpenBLAS."""
    import ctypes
    for path in loaded_libraries():
        if "openblas" in path:
            name = getattr(ctypes.CDLL(path), "openblas_get_corename", None)
            if name:
                name.restype = ctypes.c_char_p
                return name().decode()
    return None


def cpu_capability(torch):
    """The instruction set that PyTorch's own kernels take ("AVX512"), or None where it does not say."""
    get = getattr(getattr(torch.backends, "cpu", None), "get_cpu_capability", None)
    return get() if get else None


def loaded_libraries():
    """The BLAS and OpenMP libraries that this process really uses, symbolic links resolved."""
    wanted = ("blas", "mkl", "gomp", "iomp", "libomp", "dnnl")
    with open("/proc/self/maps") as maps:
        paths = {line.split()[-1] for line in maps if "/" in line}
    return sorted(os.path.realpath(p) for p in paths if any(w in os.path.basename(p) for w in wanted))


def fused_attention(attention, x, F):
    q, k, v = attention.project(x)
    return attention.w_o(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


def make_gathered_attention(torch):
    """Attention over gathered keys as one autograd function. It goes over the queries in chunks that fit the cache and
    recomputes in backward: gathering whole layers at once, and leaving them to autograd, is slower and needs several
    times the memory, so it would be no fair opponent."""

    def chunks(count, k):
        size = max(1, 16384 // max(1, k))
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]

    def probabilities(q, keys, allowed):
        z = torch.matmul(keys, q[..., None]).squeeze(-1) / math.sqrt(q.shape[-1])              # [C,H,k]
        return z.masked_fill_(~allowed[:, None], float("-inf")).softmax(-1)

    class GatheredAttention(torch.autograd.Function):
        """q, k, v [N,H,dh], rows [N,k] into k and v, allowed [N,k] -> u [N,H,dh], p [N,k] (mean over heads)."""

        @staticmethod
        def gather(table, rows):
            return table[rows].transpose(1, 2).contiguous()                                    # [C,H,k,dh]

        @staticmethod
        def forward(ctx, q, k, v, rows, allowed):
            u, p = torch.empty_like(q), q.new_empty(rows.shape)
            for part in chunks(len(q), rows.shape[1]):
                a = probabilities(q[part], GatheredAttention.gather(k, rows[part]), allowed[part])
                u[part] = torch.matmul(a[..., None, :], GatheredAttention.gather(v, rows[part])).squeeze(-2)
                p[part] = a.mean(1)
            ctx.save_for_backward(q, k, v, rows, allowed, u)
            ctx.mark_non_differentiable(p)
            return u, p

        @staticmethod
        def backward(ctx, du, _):
            q, k, v, rows, allowed, u = ctx.saved_tensors
            dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            for part in chunks(len(q), rows.shape[1]):
                keys, values = GatheredAttention.gather(k, rows[part]), GatheredAttention.gather(v, rows[part])
                a, d = probabilities(q[part], keys, allowed[part]), du[part]
                da = torch.matmul(values, d[..., None]).squeeze(-1)
                dz = a * (da - (d * u[part]).sum(-1, keepdim=True)) / math.sqrt(q.shape[-1])
                dq[part] = torch.matmul(dz[..., None, :], keys).squeeze(-2)
                flat = rows[part].flatten()
                for total, weights, other in ((dk, dz, q[part]), (dv, a, d)):
                    part = (weights.transpose(1, 2)[..., None] * other[:, None]).flatten(0, 1)
                    total.index_add_(0, flat, part.to(total.dtype))
            return dq, dk, dv, None, None

    return GatheredAttention


def gathered_attention(attention, function, x, exact_ties, torch, F):
    batch, length = x.shape[:2]
    q, k, v = (part.transpose(1, 2).flatten(0, 1) for part in attention.project(x))            # [B*T,H,dh]
    scores = attention.indexer(x, attention.query_latent(x), exact_ties=False)
    causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
    top = min(attention.top_k, length)
    masked = scores.detach().masked_fill(~causal, float("-inf"))
    if exact_ties:
        best, index = (part[..., :top] for part in torch.sort(masked, dim=-1, descending=True, stable=True))
    else:
        best, index = torch.topk(masked, top, dim=-1, sorted=False)
    allowed = best > float("-inf")                                                             # [B,T,k]
    rows = (index + length * torch.arange(batch, device=x.device)[:, None, None]).flatten(0, 1)
    u, p = function.apply(q, k, v, rows, allowed.flatten(0, 1))
    log_q = F.log_softmax(scores.gather(-1, index).masked_fill(~allowed, float("-inf")), -1).masked_fill(~allowed, 0)
    p = p.view_as(log_q)
    return attention.w_o(u.view(batch, length, -1)), (torch.xlogy(p, p) - p * log_q).sum(-1).mean()


def flex_attention_of(attention, flex, x, exact_ties, torch):
    """The selection as flex_attention's block mask. It gives no probabilities: the indexer's target is made without a
    graph from materialised ones, one layer at a time."""
    from reference import alignment_loss, select_causal
    q, k, v = attention.project(x)
    scores = attention.indexer(x, attention.query_latent(x), exact_ties=False)
    allowed = select_causal(scores, attention.top_k, exact_ties)
    batch, length = x.shape[:2]
    mask = flex.create_block_mask(lambda b, h, i, j: allowed[b, i, j], batch, None, length, length, device=x.device)
    u = flex.flex_attention(q, k, v, block_mask=mask)
    with torch.no_grad():
        z = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        a = z.masked_fill(~allowed[:, None], float("-inf")).softmax(-1)
    return attention.w_o(u.transpose(1, 2).flatten(2)), alignment_loss(scores, a, allowed)


def use_variant(model, variant, torch, F, compiled):
    """Replaces the attention of every block by the named variant."""
    gathered = make_gathered_attention(torch) if variant == "sparse_gathered" else None
    if gathered and compiled:  # its loop over chunks would be unrolled: minutes of compilation, and nothing to fuse
        gathered.apply = torch.compiler.disable(gathered.apply)
    if variant == "sparse_flex":
        try:
            from torch.nn.attention import flex_attention as flex
        except ImportError:
            sys.exit("not in this PyTorch")
    for block in model.blocks:
        attention = block.attention
        if variant == "classic_fused":
            if not hasattr(F, "scaled_dot_product_attention"):
                sys.exit("not in this PyTorch")
            attention.forward = lambda x, stage, exact, shared=None, a=attention: (fused_attention(a, x, F), None, None)
        if variant == "sparse_gathered":
            attention.forward = lambda x, stage, exact, shared=None, a=attention: (
                *gathered_attention(a, gathered, x, exact, torch, F), None)
        if variant == "sparse_flex":
            attention.forward = lambda x, stage, exact, shared=None, a=attention: (
                *flex_attention_of(a, flex, x, exact, torch), None)


def build(arguments, torch):
    from reference import PRESETS, Config, Transformer
    keys = dict(PRESETS[arguments.preset], vocab_size=arguments.vocab_size)
    for key, value in (("max_seq_len", arguments.seq_len), ("batch_size", arguments.batch_size),
                       ("sparse_top_k", arguments.top_k)):
        if value:
            keys[key] = value
    config = Config(**keys, attention="sparse" if arguments.attention.startswith("sparse") else "classic")
    torch.manual_seed(1)
    model = Transformer(config).train()
    if arguments.inputs:
        model.load_state_dict(torch.load(os.path.join(arguments.inputs, "model.pt")), strict=True)
    use_variant(model, arguments.attention, torch, torch.nn.functional, arguments.compile)
    return config, model.to(arguments.device)


def write_inputs(arguments):
    """model.pt, tokens.npy and targets.npy: what both sides start from."""
    import numpy as np
    import torch
    config, model = build(arguments, torch)
    shape = (config.batch_size, config.max_seq_len)
    torch.save(model.state_dict(), os.path.join(arguments.write_inputs, "model.pt"))
    for name in ("tokens", "targets"):
        np.save(os.path.join(arguments.write_inputs, name + ".npy"), torch.randint(config.vocab_size, shape).numpy())


def make_batches(arguments, config, torch):
    """A function that gives the tokens and the targets of the next step."""
    if not arguments.inputs:
        shape = (config.batch_size, config.max_seq_len)
        return lambda: tuple(torch.randint(config.vocab_size, shape).to(arguments.device) for _ in range(2))
    import numpy as np
    given = tuple(torch.from_numpy(np.load(os.path.join(arguments.inputs, name + ".npy")).astype(np.int64))
                  .to(arguments.device) for name in ("tokens", "targets"))
    return lambda: given


def make_optimizers(arguments, model, torch):
    from muon import Muon, is_hidden_matrix
    if arguments.optimizer == "adamw":
        return [torch.optim.AdamW(model.parameters(), lr=1e-4)]
    named = list(model.named_parameters())
    return [Muon([p for n, p in named if is_hidden_matrix(n, p)], lr=1e-3),
            torch.optim.AdamW([p for n, p in named if not is_hidden_matrix(n, p)], lr=1e-4)]


def first_losses(model, config, batch, torch):
    """The losses before the first step, without dropout and router noise: what another implementation can repeat.
    Of the model as it is written, not compiled: in this mode it would be compiled once more."""
    import reference
    # Ties go to the lower index, as ours do. The reference's exact product needs [T,T,dI], too much for long windows;
    # with another one only scores that tie by repeated tokens may part.
    reference.row_invariant_product = lambda a, b: a @ b.transpose(-1, -2)
    model.eval()
    with torch.no_grad():
        out = model(batch[0], "sparse", True)
        losses = dict(lm=reference.lm_loss(out["logits"], batch[1]).item(),
                      load_balancing=float(out["load_balancing"]))
    if out["indexer_kl"] is not None:
        losses["indexer_kl"] = out["indexer_kl"].item()
    model.train()
    return losses


def peak_process_bytes():
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def time_torch(arguments):
    import torch

    from reference import lm_loss
    torch.set_num_threads(arguments.threads or len(os.sched_getaffinity(0)))
    if arguments.precision == "medium":
        torch.set_float32_matmul_precision("medium")
    elif arguments.precision != "fp32":
        torch.backends.cuda.matmul.allow_tf32 = True
    config, model = build(arguments, torch)
    next_batch = make_batches(arguments, config, torch)
    losses = first_losses(model, config, next_batch(), torch)
    forward = torch.compile(model) if arguments.compile else model
    optimizers = make_optimizers(arguments, model, torch)
    wait = torch.cuda.synchronize if arguments.device == "cuda" else lambda: None

    def one_step():
        tokens, targets = next_batch()
        wait()
        start = time.perf_counter()
        with torch.autocast(arguments.device, torch.bfloat16, enabled=arguments.precision == "bf16"):
            out = forward(tokens, "sparse", False)
            loss = lm_loss(out["logits"], targets) + out["load_balancing"]
        if out["indexer_kl"] is not None:
            loss = loss + out["indexer_kl"]
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        wait()
        return time.perf_counter() - start

    one_step()  # the first of a compiled model is its compilation
    second = one_step()
    if second > arguments.max_seconds_per_step:
        sys.exit(f"a step takes {second:.0f} s, more than --max_seconds_per_step {arguments.max_seconds_per_step:g}")
    seconds = []
    while len(seconds) < arguments.steps and (len(seconds) < 2 or sum(seconds) < arguments.timed_seconds):
        seconds.append(one_step())
    peak_device = torch.cuda.max_memory_allocated() if arguments.device == "cuda" else None
    return dict(preset=arguments.preset, attention=arguments.attention, optimizer=arguments.optimizer,
                batch_size=config.batch_size, seq_len=config.max_seq_len, top_k=config.sparse_top_k,
                threads=torch.get_num_threads(), seconds_per_step=statistics.median(seconds), fastest=min(seconds),
                slowest=max(seconds), seconds=seconds, first_losses=losses, peak_process_bytes=peak_process_bytes(),
                peak_device_bytes=peak_device, torch=torch.__version__, compiled=arguments.compile,
                device=arguments.device, precision=arguments.precision, libraries=loaded_libraries(),
                openblas_kernel=openblas_kernel(), cpu_capability=cpu_capability(torch),
                malloc={key: value for key, value in os.environ.items() if key.startswith("MALLOC_")})


def print_torch(result):
    print(f"torch {result['torch']}, {result['threads']} threads, {', '.join(result['libraries'])}, "
          f"OpenBLAS kernel {result['openblas_kernel']}, "
          f"malloc {result['malloc'] or 'as shipped'}")
    print(f"{result['preset']} {result['attention']}: {result['batch_size']} x {result['seq_len']} tokens, "
          f"{1000 * result['seconds_per_step']:.1f} ms/step (fastest {1000 * result['fastest']:.1f}, slowest "
          f"{1000 * result['slowest']:.1f}), peak {result['peak_process_bytes'] / 2 ** 20:.0f} MiB")


def main():
    arguments = parse_arguments()
    if arguments.write_inputs:
        write_inputs(arguments)
        return
    result = time_torch(arguments)
    print(json.dumps(result)) if arguments.json else print_torch(result)


if __name__ == "__main__":
    main()
