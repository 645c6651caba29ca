#!/usr/bin/env python3
"""Writes tests/optim/trajectories.inc: what PyTorch's optimisers make of given gradients, in float64.

    python3 tests/pytorch/optim_trajectories.py > tests/optim/trajectories.inc

AdamW is torch.optim.AdamW, clipping is torch.nn.utils.clip_grad_norm_, the schedule is a torch LambdaLR, Muon is that
of muon.py. Start values and gradients come from pattern(), which tests/optim/optim_test.cpp repeats.
"""
import math

import torch

from muon import Muon, is_hidden_matrix

STEPS = 12


def pattern(shape, seed):
    """Multiples of 1/64 without visible order: exact in binary, so that C++ makes the same numbers."""
    n = math.prod(shape)
    return torch.tensor([((i * i * 31 + i * 57 + seed * 101) % 127 - 63) / 64 for i in range(n)],
                        dtype=torch.float64).reshape(shape)


def gradient(shape, seed, step):
    if (step + seed) % 5 == 4:
        return None  # a step in which this parameter had no gradient
    return pattern(shape, 1000 + 37 * seed + 11 * step)


def numbers(values):
    return ", ".join(repr(float(v)) for v in values)


def c_list(tensors):
    return "{" + ",\n     ".join("{" + numbers(t.flatten()) + "}" for t in tensors) + "}"


def run(name, shape, make, rate):
    """One parameter; its value after each step."""
    p = torch.nn.Parameter(pattern(shape, 7))
    optimizer = make([p])
    values = []
    for step in range(STEPS):
        p.grad = gradient(shape, 2, step)
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 + step % 3)
        optimizer.step()
        values.append(p.detach().clone())
    dims = ", ".join(map(str, shape))
    print(f'    {{"{name}",\n     {{{dims}}},\n     {c_list(values)}}},')


def schedule(step):
    total = 4 * STEPS
    warmup = total // 20
    if step < warmup:
        return (step + 1) / warmup
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - 1 - warmup)))


def run_recipe():
    """Clipping, schedule, Muon and AdamW together, as the training loop calls them."""
    shapes = {"embed.weight": (6, 3), "norm.weight": (6,), "blocks.0.qkv.weight": (7, 4),
              "blocks.0.norm1.weight": (4,), "blocks.0.w_o.weight": (3, 5), "blocks.0.k_norm.weight": (2, 3)}
    params = {n: torch.nn.Parameter(pattern(s, i)) for i, (n, s) in enumerate(shapes.items())}
    hidden = [p for n, p in params.items() if is_hidden_matrix(n, p)]
    others = [p for p in params.values() if not any(p is h for h in hidden)]
    muon = Muon(hidden, lr=0.03, momentum=0.95)
    adamw = torch.optim.AdamW(others, lr=0.003, weight_decay=0.1)
    schedulers = [torch.optim.lr_scheduler.LambdaLR(o, schedule) for o in (muon, adamw)]
    norms = []
    for step in range(STEPS):
        for i, p in enumerate(params.values()):
            p.grad = gradient(tuple(p.shape), i, step)
        norms.append(float(torch.nn.utils.clip_grad_norm_(params.values(), 4.5)))
        for optimizer, scheduler in zip((muon, adamw), schedulers):
            optimizer.step()
            scheduler.step()
    print(f"const std::vector<double> recipe_norms = {{{numbers(norms)}}};\n")
    print("// The parameters after the last step.\nconst std::vector<NamedValues> recipe_values = {")
    for n, p in params.items():
        print(f'    {{"{n}", {{{", ".join(map(str, p.shape))}}}, {{{numbers(p.detach().flatten())}}}}},')
    print("};")


print(f"// Written by tests/pytorch/optim_trajectories.py with torch {torch.__version__}.")
print("// clang-format off\n")
print("const std::vector<Trajectory> adamw_trajectories = {")
for label, shape, weight_decay in (("no decay", (6,), 0.0), ("decay", (3, 5), 0.1)):
    run(label, shape, lambda ps: torch.optim.AdamW(ps, weight_decay=weight_decay), 0.01)
print("};\n\nconst std::vector<Trajectory> muon_trajectories = {")
for label, shape in (("wide", (3, 5)), ("tall", (7, 4)), ("square", (4, 4)), ("row", (1, 6)), ("column", (5, 1))):
    run(label, shape, Muon, 0.02)
print("};\n")
run_recipe()
