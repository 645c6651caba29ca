#!/usr/bin/env python3
"""The paper model behind docs/scaling.md: FLOPs, bytes, memory and communication of training and decoding with dense
attention and with DSA, on H100s. Only arithmetic; nothing here is measured.

    python3 docs/scaling_model.py                            # every table of the page
    python3 docs/scaling_model.py --markdown docs/scaling.md # ... written between its markers
    python3 docs/scaling_model.py --flops                    # the FLOP counts as JSON, for the test against flops.h

The FLOP formulas are those of framework/measure/flops.cpp.
"""
import argparse
import json
import sys

# ---- assumptions

PEAK = 989e12  # FLOP/s, bf16, dense
HBM = 3.35e12  # bytes/s
L2 = 5.5e12  # bytes/s that the SMs read from the L2 cache
L2_BYTES = 40e6  # of its 50 MB
NVLINK = 450e9  # bytes/s in each direction: 900 GB/s count both
NIC = 50e9  # bytes/s in each direction of a 400 Gbit/s adapter, one a GPU

# Shares of those peaks that good kernels reach.
EFFICIENCY = dict(matmul=0.6, dense_attention=0.5, sparse_attention=0.3, indexer=0.4, memory=0.8, link=0.8)
REUSE = 4  # queries that a gathered row serves: neighbours select many of the same keys. The table of speeds varies it
ELEMENTWISE = 60  # bytes a token, layer and model dim: norms, residuals, dropout, RoPE, forward and backward, bf16

LENGTHS = (32768, 65536, 131072)
K = 1024

CONFIGS = {
    "medium": dict(d_model=256, n_heads=8, n_layers=6, d_ff=512, vocab_size=4096, num_experts=4, expert_top_k=2,
                   indexer_heads=4, indexer_dim=64, sparse_top_k=512),
    "large": dict(d_model=512, n_heads=16, n_layers=12, d_ff=1024, vocab_size=4096, num_experts=8, expert_top_k=2,
                  indexer_heads=8, indexer_dim=128, sparse_top_k=512),
}
_xl = dict(d_model=2048, n_heads=16, n_layers=24, d_ff=1408, vocab_size=65536, num_experts=64, expert_top_k=6,
           indexer_heads=16, indexer_dim=64, sparse_top_k=2048)
CONFIGS["xl mha"] = _xl
CONFIGS["xl gqa"] = dict(_xl, attention_type="gqa", n_kv_heads=2)
CONFIGS["xl mla"] = dict(_xl, attention_type="mla", kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64,
                         v_head_dim=128)


class Model:
    """Derived sizes of a configuration, of the attention of one layer as it is computed."""

    def __init__(self, name, **keys):
        self.name, self.keys = name, keys
        self.d, self.heads, self.layers, self.ff = keys["d_model"], keys["n_heads"], keys["n_layers"], keys["d_ff"]
        self.vocab, self.experts, self.active = keys["vocab_size"], keys["num_experts"], keys["expert_top_k"]
        self.indexer_width = keys["indexer_heads"] * keys["indexer_dim"]
        self.indexer_key, self.k = keys["indexer_dim"], keys["sparse_top_k"]
        self.indexer_weights = self.d * (self.indexer_width + keys["indexer_dim"] + keys["indexer_heads"])
        kind = keys.get("attention_type", "mha")
        if kind == "mla":  # in its multi-query form: all heads read one row of C + R, whose first C are the value
            latent, nope = keys["kv_lora_rank"], keys["qk_nope_head_dim"]
            rope, value = keys["qk_rope_head_dim"], keys["v_head_dim"]
            self.qk_dim, self.v_dim, self.row = latent + rope, latent, latent + rope
            self.written_out = nope + rope, value  # what dense training is cheaper with
            self.attention_weights = ((latent + rope) * self.d + self.heads * (nope + value) * latent +
                                      self.d * self.heads * value + self.heads * (nope + rope) * self.d)
        else:
            kv_heads = keys["n_kv_heads"] if kind == "gqa" else self.heads
            self.qk_dim = self.v_dim = self.d // self.heads
            self.written_out = self.qk_dim, self.v_dim
            self.row = 2 * kv_heads * self.qk_dim  # elements of a token's keys and values
            self.attention_weights = self.d * (self.d + self.row) + self.d * self.d
        self.expert_weights = 2 * self.d * self.ff

    def parameters(self, sparse):
        layer = (self.attention_weights + self.experts * (self.expert_weights + self.d) +
                 (self.indexer_weights if sparse else 0))
        return self.layers * layer + self.vocab * self.d


MODELS = {name: Model(name, **keys) for name, keys in CONFIGS.items()}


# ---- operations and bytes of one training step (forward and backward) of one window of T tokens


def keys_read(T, k):
    """Keys that a query reads, on average; k None: all earlier ones."""
    if k is None:
        return (T + 1) / 2
    k = min(k, T)
    return (k * (k + 1) / 2 + (T - k) * k) / T


def flops(m, T, sparse):
    """projections, attention, indexer: as StepFlops."""
    keys, triangle = keys_read(T, m.k if sparse else None), (T + 1) / 2
    per_token = m.attention_weights + m.experts * m.d + m.active * m.expert_weights
    projections = 6 * T * (m.layers * per_token + m.d * m.vocab)
    attention = m.layers * T * 2 * keys * m.heads * (4 * m.qk_dim + 3 * m.v_dim)
    indexer = m.layers * T * (4 * m.indexer_weights + 2 * triangle * m.indexer_width + 6 * keys * m.indexer_width +
                              2 * keys * m.heads * m.qk_dim) if sparse else 0
    return dict(projections=projections, attention=attention, indexer=indexer)


def dense_attention_flops(m, T):
    """The same of dense attention with every head's keys and values written out, the cheaper form for MLA in training,
    and what DSA must beat."""
    qk, v = m.written_out
    return m.layers * T * 2 * keys_read(T, None) * m.heads * (4 * qk + 3 * v)


def gather_bytes(m, T):
    """What sparse attention reads and adds to, bf16, without reuse between queries: rows of keys and values in forward,
    again in backward, the keys once more for the alignment target. dk and dv either by adding to float32 rows or, key by
    key over the inverse lists, from the rows of q and of the output's gradient; the cheaper of the two."""
    queries = m.heads * (m.qk_dim + m.v_dim)
    key_gradients = min(2 * 4 * m.row, 2 * queries)
    return m.layers * T * keys_read(T, m.k) * (2 * m.row + 2 * m.row + m.row + key_gradients)


def gather_bandwidth(m, T):
    """The L2's as long as the keys and values that one group of heads reads fit there, the memory's otherwise."""
    shared = m.row if m.row == m.qk_dim else 2 * m.qk_dim
    return (L2 if 2 * T * shared <= L2_BYTES else HBM) * EFFICIENCY["memory"]


def seconds(m, T, sparse, reuse=REUSE):
    """By part; a part takes the longer of its operations and its bytes."""
    f, rate = flops(m, T, sparse), {key: share * PEAK for key, share in EFFICIENCY.items()}
    parts = dict(projections=f["projections"] / rate["matmul"],
                 elementwise=m.layers * T * ELEMENTWISE * m.d / (HBM * EFFICIENCY["memory"]))
    if sparse:
        parts["attention"] = max(f["attention"] / rate["sparse_attention"],
                                 gather_bytes(m, T) / reuse / gather_bandwidth(m, T))
        parts["indexer"] = f["indexer"] / rate["indexer"]
    else:
        parts["attention"] = dense_attention_flops(m, T) / rate["dense_attention"]
    return parts


def dense_bytes(m, T):
    """Of flash attention with tiles of 128 queries: k and v once a tile forward, and twice backward."""
    return m.layers * T / 128 * (T + 1) / 2 * 2 * m.row * 3


# ---- memory


def activation_bytes(m, sparse):
    """Saved for backward, a token and layer, bf16: both normed inputs, q, k, v, the attention's output, lse; the
    experts' inputs, hidden values before and after silu, outputs. DSA: the indexer's q, k, w and k indices of int32."""
    queries = m.heads * (m.qk_dim + m.v_dim)
    dense = 2 * (2 * m.d + queries + m.row + m.active * (2 * m.d + 2 * m.ff)) + 4 * m.heads
    extra = 2 * (m.indexer_width + m.indexer_key + m.keys["indexer_heads"]) + 4 * m.k + 4
    return dense + (extra if sparse else 0)


# ---- tables


def table(title, head, rows):
    lines = [f"**{title}**", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def short(T):
    return f"{T // K}K"


def operations_table():
    rows = []
    for m in MODELS.values():
        for T in LENGTHS:
            dense, sparse = flops(m, T, False), flops(m, T, True)
            rows.append([m.name, short(T), m.k, f"{dense['projections'] / 1e12:.1f}",
                         f"{dense_attention_flops(m, T) / 1e12:.1f}",
                         f"{sparse['attention'] / 1e12:.2f}", f"{sparse['indexer'] / 1e12:.1f}",
                         f"{dense_bytes(m, T) / 1e12:.3f}", f"{gather_bytes(m, T) / 1e12:.3f}"])
    return table("Operations (TFLOP) and attention's bytes (TB) of a training step, one window",
                 ["model", "T", "k", "projections, experts, head", "dense attention", "sparse attention", "indexer",
                  "bytes, dense", "bytes, sparse"], rows)


def speed_table():
    rows = []
    for m in MODELS.values():
        for T in LENGTHS:
            dense = sum(seconds(m, T, False).values())
            sparse = {reuse: seconds(m, T, True, reuse) for reuse in (1, 4, 16)}
            of_dense = flops(m, T, False)["projections"] + dense_attention_flops(m, T)
            parts = sparse[REUSE]
            rows.append([m.name, short(T), f"{1e3 * dense:.0f}", f"{1e3 * sum(parts.values()):.0f}",
                         *(f"{100 * parts[name] / sum(parts.values()):.0f} %" for name in ("projections", "attention", "indexer")),
                         *(f"**{dense / sum(parts.values()):.2f}**" for parts in sparse.values()),
                         f"{of_dense / sum(flops(m, T, True).values()):.2f}"])
    return table(f"Milliseconds of a training step on one H100 (a gathered row serves {REUSE} queries), and DSA's speed-up "
                 "by that number",
                 ["model", "T", "dense", "DSA", "DSA: projections", "DSA: attention", "DSA: indexer", "speed-up, 1 query",
                  "4 queries", "16 queries", "FLOP bound"], rows)


def decode_table():
    rows = []
    for m in MODELS.values():
        for T in LENGTHS:
            dense = m.layers * T * 2 * m.row
            sparse = m.layers * (T * 2 * m.indexer_key + min(m.k, T) * 2 * m.row)
            rows.append([m.name, short(T), f"{dense / 2 ** 30:.2f}", f"{m.layers * T * 2 * m.indexer_key / 2 ** 30:.2f}",
                         f"{dense / 1e6:.0f}", f"{sparse / 1e6:.0f}", f"{dense / sparse:.1f}"])
    return table("The cache of one sequence (GiB), and what a new token reads of it (MB)",
                 ["model", "T", "keys and values", "indexer keys", "read, dense", "read, DSA", "ratio"], rows)


def memory_table():
    rows = []
    for m in MODELS.values():
        for T in LENGTHS:
            dense, sparse = (m.layers * T * activation_bytes(m, kind) / 2 ** 30 for kind in (False, True))
            indices = m.layers * T * 4 * m.k / 2 ** 30
            rows.append([m.name, short(T), f"{m.parameters(True) / 1e6:.0f}", f"{16 * m.parameters(True) / 2 ** 30:.1f}",
                         f"{dense:.1f}", f"{sparse:.1f}", f"{indices:.1f}", f"{m.layers * m.heads * T * T * 2 / 2 ** 40:.2f}"])
    return table("Memory of training, one window (GiB)",
                 ["model", "T", "parameters, M", "weights, gradients, AdamW", "activations, dense", "activations, DSA",
                  "of them indices", "one T×T a head and layer, TiB"], rows)


def communication(m, T, n):
    """Bytes that a GPU sends in a step: data parallel over n GPUs with a window of T tokens each; expert parallel over the
    same; context parallel with T/n tokens of one window each."""
    far = (n - 1) / n
    return dict(
        data=2 * far * m.parameters(True) * 2,  # ring all-reduce of bf16 gradients
        experts=4 * far * m.layers * T * m.active * m.d * 2,  # dispatch, combine, and both again backward
        context_dense=3 * far * m.layers * T * m.row * 2,  # k and v forward; k and v, dk and dv backward
        context_indexer=2 * far * m.layers * T * m.indexer_key * 2)  # indexer keys forward, their gradient backward


def union_of(T, n, k):
    """Share of the far keys that some query of T/n selects when selections were random: the worst case. Queries of one
    place in the text agree, so the truth lies between k/T and this."""
    return 1 - (1 - min(1, k / T)) ** (T / n)


def communication_table():
    rows = []
    for m in (MODELS["large"], MODELS["xl mha"], MODELS["xl mla"]):
        for T in LENGTHS:
            c = communication(m, T, 8)
            dense, sparse = (sum(seconds(m, T, kind).values()) for kind in (False, True))
            link = NVLINK * EFFICIENCY["link"]
            rows.append([m.name, short(T), *(f"{c[key] / 1e9:.2f}" for key in c), f"{100 * union_of(T, 8, m.k):.0f} %",
                         f"{1e3 * c['data'] / link:.1f}", f"{1e3 * c['experts'] / link:.1f}",
                         f"{1e3 * dense:.0f}", f"{1e3 * sparse:.0f}",
                         f"{1e3 * (c['context_indexer'] + c['context_dense']) / link:.1f}",
                         f"{1e3 * dense / 8:.0f}", f"{1e3 * sparse / 8:.0f}"])
    return table("Communication of a step among 8 GPUs (GB sent by a GPU; milliseconds over NVLink, nothing overlapped)",
                 ["model", "T", "data parallel", "expert parallel", "context: k, v", "context: indexer keys",
                  "union of selections at most", "ms data", "ms experts", "ms a window, dense", "ms a window, DSA",
                  "ms context, DSA", "ms an eighth, dense", "ms an eighth, DSA"], rows)


def limits_table():
    """Context parallel: compute falls as 1/n and the gathered bytes do not."""
    rows = []
    for m in (MODELS["large"], MODELS["xl mha"], MODELS["xl gqa"], MODELS["xl mla"]):
        for T in LENGTHS:
            cells = []
            for sparse in (False, True):
                compute = sum(seconds(m, T, sparse).values())
                for bandwidth in (NVLINK, NIC):
                    volume = communication(m, T, 1 << 20)
                    moved = volume["context_dense"] + (volume["context_indexer"] if sparse else 0)
                    cells.append(f"{compute / (moved / (bandwidth * EFFICIENCY['link'])):.0f}")
            rows.append([m.name, short(T), *cells])
    return table("GPUs at which context parallelism's bytes take as long as its arithmetic",
                 ["model", "T", "dense, NVLink", "dense, NIC", "DSA, NVLink", "DSA, NIC"], rows)


def tables():
    return dict(operations=operations_table, speed=speed_table, decode=decode_table, memory=memory_table,
                communication=communication_table, limits=limits_table)


def flops_json():
    return [dict(keys, attention="sparse" if sparse else "classic", seq_len=T, flops=flops(MODELS[name], T, sparse))
            for name, keys in CONFIGS.items() for sparse in (False, True) for T in (7, 2048, *LENGTHS)]


def write_markdown(path):
    with open(path) as file:
        page = file.read()
    for name, make in tables().items():
        opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, found, rest = page.partition(opening)
        _, found_end, after = rest.partition(closing)
        if not (found and found_end):
            sys.exit(f"{path}: want a line {opening.strip()} and after it a line {closing}")
        page = before + opening + make() + "\n" + closing + after
    with open(path, "w") as file:
        file.write(page)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", help="write the tables between this page's markers")
    parser.add_argument("--flops", action="store_true", help="print the FLOP counts as JSON")
    arguments = parser.parse_args()
    if arguments.flops:
        print(json.dumps(flops_json()))
    elif arguments.markdown:
        write_markdown(arguments.markdown)
    else:
        print("\n\n".join(make() for make in tables().values()))


if __name__ == "__main__":
    main()
