#!/usr/bin/env python3
"""Times training steps (forward, backward, AdamW) of the PyTorch reference, alone or beside our own.

    python3 tests/pytorch/bench_step.py --attention classic --steps 10
    python3 tests/pytorch/bench_step.py --sieve ./tools/bench --rounds 3 --torch_settings stock,fastest

Alone it runs in this process with whatever BLAS and malloc the environment gave it, and says which. With --sieve it
alternates, round by round, our program and a fresh PyTorch process for each setting, so that a noisy machine is noisy
for both, and prints each side's median over all rounds and the median of the rounds' ratios:
    stock    the environment as it is
    fastest  OpenMP OpenBLAS when Debian's package of it is installed, malloc told to keep its memory
PyTorch's attention: `classic` is the materialised one of the original experiment (and --attention classic_fused
F.scaled_dot_product_attention, where this PyTorch has it); `sparse` masks a dense one, as the original does;
`sparse_gathered` gathers the selected keys. Random tokens, dropout and router noise on, float32.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time

ATTENTIONS = ("classic", "classic_fused", "sparse", "sparse_gathered")
OPENMP_BLAS = "/usr/lib/x86_64-linux-gnu/openblas-openmp"
KEEPING_MALLOC = dict(MALLOC_TRIM_THRESHOLD_="-1", MALLOC_MMAP_THRESHOLD_=str(1 << 40), MALLOC_TOP_PAD_=str(1 << 28))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=["small", "medium", "large"], default="medium")
    parser.add_argument("--attention", choices=ATTENTIONS + ("both",), default="classic",
                        help="both: classic and sparse, only with --sieve")
    parser.add_argument("--seq_len", type=int, default=0, help="0: the preset's")
    parser.add_argument("--batch_size", type=int, default=0, help="0: the preset's")
    parser.add_argument("--top_k", type=int, default=0, help="0: the preset's")
    parser.add_argument("--vocab_size", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--steps", type=int, default=10, help="timed steps, after two that are not")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model (PyTorch 2)")
    parser.add_argument("--sieve", help="our bench program: alternate with it")
    parser.add_argument("--rounds", type=int, default=3, help="with --sieve")
    parser.add_argument("--torch_settings", default="fastest", help="with --sieve: stock, fastest or stock,fastest")
    parser.add_argument("--out", help="with --sieve: write the JSON here")
    arguments = parser.parse_args()
    if arguments.attention == "both" and not arguments.sieve:
        parser.error("--attention both needs --sieve")
    if arguments.steps < 1 or arguments.rounds < 1:
        parser.error("--steps and --rounds must be at least 1")
    arguments.settings = arguments.torch_settings.split(",")
    if not set(arguments.settings) <= {"stock", "fastest"}:
        parser.error(f"--torch_settings {arguments.torch_settings}: want stock, fastest or stock,fastest")
    return arguments


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
                    total.index_add_(0, flat, (weights.transpose(1, 2)[..., None] * other[:, None]).flatten(0, 1))
            return dq, dk, dv, None, None

    return GatheredAttention


def gathered_attention(attention, function, x, torch, F):
    batch, length = x.shape[:2]
    q, k, v = (part.transpose(1, 2).flatten(0, 1) for part in attention.project(x))            # [B*T,H,dh]
    scores = attention.indexer(x, attention.query_latent(x), exact_ties=False)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    top = min(attention.top_k, length)
    best, index = torch.topk(scores.detach().masked_fill(~causal, float("-inf")), top, dim=-1, sorted=False)
    allowed = best > float("-inf")                                                             # [B,T,k]
    rows = (index + length * torch.arange(batch)[:, None, None]).flatten(0, 1)
    u, p = function.apply(q, k, v, rows, allowed.flatten(0, 1))
    log_q = F.log_softmax(scores.gather(-1, index).masked_fill(~allowed, float("-inf")), -1).masked_fill(~allowed, 0)
    p = p.view_as(log_q)
    return attention.w_o(u.view(batch, length, -1)), (torch.xlogy(p, p) - p * log_q).sum(-1).mean()


def use_variant(model, variant, torch, F):
    """Replaces the attention of every block by the named variant."""
    gathered = make_gathered_attention(torch) if variant == "sparse_gathered" else None
    for block in model.blocks:
        attention = block.attention
        if variant == "classic_fused":
            if not hasattr(F, "scaled_dot_product_attention"):
                sys.exit("classic_fused: this PyTorch has no F.scaled_dot_product_attention")
            attention.forward = lambda x, stage, exact, a=attention: (fused_attention(a, x, F), None, None)
        if variant == "sparse_gathered":
            attention.forward = lambda x, stage, exact, a=attention: (*gathered_attention(a, gathered, x, torch, F), None)


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
    use_variant(model, arguments.attention, torch, torch.nn.functional)
    return config, model


def time_torch(arguments):
    import resource

    import torch

    from reference import lm_loss
    torch.set_num_threads(arguments.threads or len(os.sched_getaffinity(0)))
    config, model = build(arguments, torch)
    forward = torch.compile(model) if arguments.compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    shape = (config.batch_size, config.max_seq_len)
    seconds = []
    for step in range(arguments.steps + 2):
        tokens, targets = torch.randint(config.vocab_size, shape), torch.randint(config.vocab_size, shape)
        start = time.perf_counter()
        out = forward(tokens, "sparse", False)
        loss = lm_loss(out["logits"], targets) + out["load_balancing"]
        if out["indexer_kl"] is not None:
            loss = loss + out["indexer_kl"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step >= 2:
            seconds.append(time.perf_counter() - start)
    return dict(preset=arguments.preset, attention=arguments.attention, batch_size=config.batch_size,
                seq_len=config.max_seq_len, top_k=config.sparse_top_k, threads=torch.get_num_threads(),
                seconds_per_step=statistics.median(seconds), fastest=min(seconds), slowest=max(seconds),
                seconds=seconds, peak_process_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
                torch=torch.__version__, compiled=arguments.compile, libraries=loaded_libraries(),
                malloc={key: value for key, value in os.environ.items() if key.startswith("MALLOC_")})


def print_torch(result):
    print(f"torch {result['torch']}, {result['threads']} threads, {', '.join(result['libraries'])}, "
          f"malloc {result['malloc'] or 'as shipped'}")
    print(f"{result['preset']} {result['attention']}: {result['batch_size']} x {result['seq_len']} tokens, "
          f"{1000 * result['seconds_per_step']:.1f} ms/step (fastest {1000 * result['fastest']:.1f}, slowest "
          f"{1000 * result['slowest']:.1f}), peak {result['peak_process_bytes'] / 2 ** 20:.0f} MiB")


def run_json(command, environment=None):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
                          env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def environment_of(setting):
    """`stock` changes nothing; `fastest` picks the OpenMP BLAS where installed and a malloc that keeps its memory."""
    if setting == "stock":
        return {}
    environment = dict(KEEPING_MALLOC)
    if os.path.isdir(OPENMP_BLAS):
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(
            part for part in (OPENMP_BLAS, os.environ.get("LD_LIBRARY_PATH", "")) if part)
    return environment


def summary(times):
    return dict(seconds_per_step=statistics.median(times), fastest=min(times), slowest=max(times), rounds=times)


def compare(arguments):
    """{attention: {"sieve": ..., "torch stock": ..., "torch fastest": ..., "ratio stock": ...}}"""
    shared = [f"--preset={arguments.preset}", f"--steps={arguments.steps}", f"--threads={arguments.threads or len(os.sched_getaffinity(0))}"]
    shared += [f"--{key}={getattr(arguments, key)}" for key in ("seq_len", "batch_size", "top_k") if getattr(arguments, key)]
    # `both` means ours of either kind against the original's.
    attentions = ("classic", "sparse") if arguments.attention == "both" else (arguments.attention,)
    result = dict(command=" ".join(sys.argv), cpu=cpu_name(), rounds=arguments.rounds, attentions={})
    for attention in attentions:
        ours, torch_times, details = [], {s: [] for s in arguments.settings}, {}
        for _ in range(arguments.rounds):
            kind = "sparse" if attention.startswith("sparse") else "classic"
            details["sieve"] = run_json([arguments.sieve, "step", *shared, f"--attention={kind}", "--json"])
            ours.append(details["sieve"][kind]["seconds_per_step"])
            for setting in arguments.settings:
                command = [sys.executable, os.path.abspath(__file__), *shared, f"--attention={attention}", "--json",
                           f"--vocab_size={arguments.vocab_size}"] + ["--compile"] * arguments.compile
                details["torch " + setting] = run_json(command, environment_of(setting))
                torch_times[setting].append(details["torch " + setting]["seconds_per_step"])
        entry = dict(sieve=summary(ours), details=details)
        for setting, times in torch_times.items():
            entry["torch " + setting] = summary(times)
            # Within a round both saw the same machine: the ratio is taken there.
            entry["ratio " + setting] = statistics.median(theirs / mine for theirs, mine in zip(times, ours))
        result["attentions"][attention] = entry
    return result


def cpu_name():
    with open("/proc/cpuinfo") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")


def print_comparison(result):
    print(f"{result['cpu']}; {result['rounds']} rounds, alternating; ms/step: median (fastest-slowest round)")
    for attention, entry in result["attentions"].items():
        for name in entry:
            if name == "details" or name.startswith("ratio"):
                continue
            t, libraries = entry[name], entry["details"][name].get("libraries", [])
            version = entry["details"][name].get("torch", "")
            ratio = entry.get("ratio " + name.replace("torch ", ""))
            print(f"{attention:<16} {name:<14} {1000 * t['seconds_per_step']:>8.1f} ({1000 * t['fastest']:.1f}-"
                  f"{1000 * t['slowest']:.1f})" + (f"  {ratio:.2f}x ours" if ratio else "") +
                  (f"  torch {version}, {', '.join(os.path.basename(p) for p in libraries)}" if version else ""))


def main():
    arguments = parse_arguments()
    if not arguments.sieve:
        result = time_torch(arguments)
        print(json.dumps(result)) if arguments.json else print_torch(result)
        return
    result = compare(arguments)
    if arguments.out:
        with open(arguments.out, "w") as file:
            json.dump(result, file, indent=2)
            file.write("\n")
    print(json.dumps(result)) if arguments.json else print_comparison(result)


if __name__ == "__main__":
    main()
