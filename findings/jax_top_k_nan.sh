#!/usr/bin/env bash
# jax and jaxlib 0.10.2 on a CPU (seen 2026-11-29)
#
# jax.lax.top_k ranks a NaN by its sign bit: a positive NaN above everything, a negative one below -inf. On
# x86 the NaN that arithmetic makes (inf - inf, 0 / 0, sqrt(-1), log(-1)) is negative, the one written as
# jnp.nan is positive. So a test with jnp.nan shows the NaN in first place, and the NaN of a real fault is
# never selected. jnp.argsort puts both at the same end.
#
#   scores [1 x 3 2], k = 2          top_k          argsort(descending=True)
#   x = jnp.nan                      [nan 3]        [1 2 3 0]
#   x = inf - inf                    [3 2]          [1 2 3 0]
#
# Why it matters: top-k picks experts, the keys of sparse attention and the tokens to sample from. A score
# that became NaN drops out quietly and the run goes on with finite numbers.
set -euo pipefail
[ "$(uname -m)" = x86_64 ] || { echo "this is about x86-64" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 ml_dtypes==0.6.0 || exit 2
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys
import jax
import jax.numpy as jnp
import numpy as np

infinity = jnp.array(jnp.inf)
made = {"jnp.nan": jnp.array(jnp.nan), "inf - inf": infinity - infinity, "0 / 0": jnp.zeros(()) / jnp.zeros(()),
        "log(-1)": jnp.log(jnp.array(-1.0)), "sqrt(-1)": jnp.sqrt(jnp.array(-1.0))}
for name, x in made.items():
    scores = jnp.array([1.0, 0.0, 3.0, 2.0]).at[1].set(x)
    values, indices = jax.lax.top_k(scores, 2)
    order = jnp.argsort(scores, descending=True)
    print(f"{name}: sign bit {int(np.signbit(np.asarray(x)))}, top_k {values} at {indices}, argsort {order}")
    wanted = [1, 2] if name == "jnp.nan" else [2, 3]
    if indices.tolist() != wanted or order.tolist() != [1, 2, 3, 0]:
        sys.exit(f"changed: top_k took {wanted}, argsort gave [1, 2, 3, 0]")
lowest = jax.lax.top_k(jnp.array([1.0, 0.0, -jnp.inf]).at[1].set(infinity - infinity), 2)[1].tolist()
if lowest != [0, 2]:
    sys.exit(f"changed: -inf came before inf - inf, now {lowest}")
PYTHON
