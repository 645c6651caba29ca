#!/usr/bin/env python3
"""Our training step beside PyTorch's, on the same weights and tokens, at growing lengths: one command, one page.

    tests/pytorch/make_torch_venv.sh build/torch      # once: the newest PyTorch; Debian's is python3-torch
    python3 tests/pytorch/bench_side_by_side.py --sieve ./tools/bench --out docs/performance.json \\
        --markdown docs/performance.md --threads 2 --torch_python build/torch/bin/python

Opponents. A Debian PyTorch runs in two settings, a wheel with its own BLAS in two ways:
    stock     as `apt-get install python3-torch` leaves it: OpenBLAS of the pthread kind (libtorch recommends libopenblas0,
              whose first alternative that is), glibc's malloc as it is
    fastest   OpenBLAS of the OpenMP kind, a malloc that keeps its memory, and OPENBLAS_CORETYPE=SkylakeX where OpenBLAS
              does not use AVX-512 by itself on a machine that has it
    eager     a wheel, with the same malloc
    compiled  the same with torch.compile; compilation is not timed
One that cannot run is said to be absent. A step is forward, backward and optimiser: AdamW against AdamW, and Muon (with
AdamW for embeddings and norms) against Muon. Ours also clips the gradients' norm and checks that everything is finite;
PyTorch's does not.

Before its first step each side prints its losses without dropout and router noise; when they differ by more than 1e-3 of
their size the comparison ends with exit code 1. Each round runs every side once, in a fresh process, so that a noisy
machine is noisy for all; ratios are taken within a round, medians over rounds. Processes may use 90 % of the memory that
was free at the start: what needs more, or more than --max_seconds_per_step, is skipped and reported. After Ctrl-C, and at
any time, --out holds what was measured; --from_json writes its table again.

With --precision bf16 on a CPU each wheel's PyTorch runs in float32, with float32_matmul_precision("medium") and below
bfloat16 autocast, each eager and compiled: which of them is fastest differs from machine to machine. First losses are
then compared to 2 %, and the second line says by which instructions our products are computed.

With --device cuda the opponents are the wheel's torch.compile with fused (flash) attention and with flex_attention, and
all sides run in --precision. That path was written without a GPU to run it on.
"""
import argparse
import datetime
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
DEBIAN_PYTHON, DEBIAN_LIBRARIES = "/usr/bin/python3", "/usr/lib/x86_64-linux-gnu"
KEEPING_MALLOC = dict(MALLOC_TRIM_THRESHOLD_="-1", MALLOC_MMAP_THRESHOLD_=str(1 << 40), MALLOC_TOP_PAD_=str(1 << 28))
AVX512_KERNELS = ("SkylakeX", "Cooperlake", "SapphireRapids")
VARIANTS = {"classic": ("classic", "classic_fused"), "sparse": ("sparse", "sparse_gathered")}
CUDA_VARIANTS = {"classic": ("classic_fused",), "sparse": ("sparse", "sparse_flex")}
TOLERANCE = {"fp32": 1e-3, "tf32": 1e-3, "bf16": 2e-2}
CPU_PRECISIONS = {"fp32": "float32", "medium": "float32 \"medium\"", "bf16": "bfloat16 autocast"}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sieve", help="our bench program")
    parser.add_argument("--out", help="write every measurement here, as JSON")
    parser.add_argument("--markdown", help="write the tables between this page's <!-- side-by-side --> markers")
    parser.add_argument("--from_json", nargs="+", help="measure nothing: make the tables of files that --out wrote on one "
                        "machine, of different --optimizers or --lengths")
    parser.add_argument("--preset", choices=["small", "medium", "large"], default="medium")
    parser.add_argument("--lengths", default="128,512,2048,8192", help="tokens in a window; 2048 tokens in a step")
    parser.add_argument("--optimizers", default="adamw,muon")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a round, after two that are not")
    parser.add_argument("--timed_seconds", type=float, default=20,
                        help="PyTorch begins no further timed step after so many seconds of a round, but times two")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--max_seconds_per_step", type=float, default=60)
    parser.add_argument("--torch_python", action="append", default=[], help="the python of a PyTorch; may be repeated")
    parser.add_argument("--pthread_blas", help="folder with the pthread OpenBLAS; default: installed, or beside a venv")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32")
    arguments = parser.parse_args()
    if not arguments.from_json and not (arguments.sieve and arguments.out):
        parser.error("want --sieve and --out, or --from_json")
    if arguments.rounds < 1 or arguments.steps < 1:
        parser.error("--rounds and --steps must be at least 1")
    arguments.optimizers = arguments.optimizers.split(",")
    if not set(arguments.optimizers) <= {"adamw", "muon"}:
        parser.error("--optimizers: want adamw, muon or adamw,muon")
    try:
        arguments.lengths = [int(length) for length in arguments.lengths.split(",")]
    except ValueError:
        parser.error("--lengths: want whole numbers such as 128,512")
    return arguments


# ---- the machine and the opponents


def first_match(path, pattern, default=""):
    with open(path) as file:
        found = re.search(pattern, file.read(), re.M)
    return found.group(1).strip() if found else default


def machine():
    flags = first_match("/proc/cpuinfo", r"^flags\s*:(.*)$").split()
    return dict(cpu=first_match("/proc/cpuinfo", r"^model name\s*:(.*)$", "unknown"), cores=len(os.sched_getaffinity(0)),
                avx2="avx2" in flags, avx512="avx512f" in flags and "avx512bw" in flags,
                memory_bytes=1024 * int(first_match("/proc/meminfo", r"^MemTotal:\s*(\d+)")),
                os=first_match("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)', platform.system()),
                kernel=platform.release(), glibc=" ".join(platform.libc_ver()))


def probe(python, environment):
    """Version, devices and BLAS of a PyTorch, or the reason why there is none."""
    program = ("import json, sys; sys.path.insert(0, sys.argv[1]); import torch; from bench_step import *\n"
               "torch.ones(2, 2) @ torch.ones(2, 2)\n"
               "print(json.dumps(dict(version=torch.__version__, cuda=torch.cuda.is_available(), "
               "libraries=loaded_libraries(), openblas_kernel=openblas_kernel(), cpu_capability=cpu_capability(torch))))")
    try:
        done = subprocess.run([python, "-c", program, HERE], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True, env={**os.environ, **environment})
    except OSError as error:
        return dict(absent=f"{python}: {error.strerror}")
    if done.returncode != 0:
        return dict(absent=f"{python}: {last_line(done.stderr)}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no output"


def openblas(kind, extra_folders=()):
    """{LD_LIBRARY_PATH: ...} that puts this kind of OpenBLAS first, or None when it is nowhere."""
    for folder in (f"{DEBIAN_LIBRARIES}/openblas-{kind}", *extra_folders):
        if os.path.isdir(folder):
            rest = [p for p in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if p]
            return dict(LD_LIBRARY_PATH=os.pathsep.join([os.path.abspath(folder), *rest]))
    return None


def debian_opponents(arguments, has_avx512):
    beside = [os.path.join(os.path.dirname(python), "..", "openblas-pthread") for python in arguments.torch_python]
    stock = openblas("pthread", ([arguments.pthread_blas] if arguments.pthread_blas else []) + beside)
    if stock is None:
        yield dict(name="Debian, stock", absent="no pthread OpenBLAS: apt-get install libopenblas0-pthread, or --pthread_blas")
    else:
        yield dict(name="Debian, stock", python=DEBIAN_PYTHON, environment=stock, **probe(DEBIAN_PYTHON, stock))
    fastest = {**KEEPING_MALLOC, **(openblas("openmp") or {})}
    found = probe(DEBIAN_PYTHON, fastest)
    if has_avx512 and found.get("openblas_kernel") not in (None, *AVX512_KERNELS):
        fastest["OPENBLAS_CORETYPE"] = "SkylakeX"
        found = probe(DEBIAN_PYTHON, fastest)
    yield dict(name="Debian, fastest", python=DEBIAN_PYTHON, environment=fastest, **found)


def wheel_opponents(python, device, precision):
    """Of one more PyTorch: eager and compiled; on a GPU compiled alone; for bf16 on a CPU in each way that may be fast."""
    found = probe(python, {})
    if device == "cuda" and not found.get("cuda", False):
        found = dict(absent=found.get("absent", f"{python}: this PyTorch sees no GPU"))
    precisions = ("fp32", "medium", "bf16") if device == "cpu" and precision == "bf16" else (None,)
    for own in precisions:
        for name, flags in (("eager", []), ("compiled", ["--compile"])):
            if name == "compiled" or device == "cpu":
                label = f"{found.get('version', python)}, {name}" + (f", {CPU_PRECISIONS[own]}" if own else "")
                yield dict(name=label, python=python, environment=dict(KEEPING_MALLOC),
                           flags=flags + ([f"--precision={own}"] if own else []), **found)


def opponents_of(arguments, has_avx512):
    # Debian's PyTorch has no fast bfloat16 on a CPU.
    without_debian = arguments.device == "cuda" or arguments.precision == "bf16"
    opponents = [] if without_debian else list(debian_opponents(arguments, has_avx512))
    for python in arguments.torch_python:
        opponents += wheel_opponents(python, arguments.device, arguments.precision)
    if not arguments.torch_python:
        opponents.append(dict(name="newest PyTorch", absent="no --torch_python (make_torch_venv.sh makes one)"))
    for opponent in opponents:
        if "version" in opponent and opponent["name"].startswith("Debian"):
            opponent["name"] = opponent["name"].replace("Debian", f"Debian {opponent['version']}")
    return opponents


# ---- running


def kernels_of(opponent):
    """By which kernels it computes, as far as it says: Debian's OpenBLAS takes old ones on some new processors."""
    said = [f"OpenBLAS kernel {opponent['openblas_kernel']}"] if opponent.get("openblas_kernel") else []
    said += [f"own kernels {opponent['cpu_capability']}"] if opponent.get("cpu_capability") else []
    return ", ".join(said) or "which says nothing of its kernels"


def memory_limit():
    return int(0.9 * 1024 * int(first_match("/proc/meminfo", r"^MemAvailable:\s*(\d+)")))


def run_json(command, environment, limit, seconds):
    """The last line of the output as JSON, or {"skipped": why}. The limit counts what is written to, not address space."""
    def limit_memory():
        if limit:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
                              env={**os.environ, **environment}, preexec_fn=limit_memory, timeout=seconds)
    except subprocess.TimeoutExpired:
        return dict(skipped=f"not done after {seconds:.0f} s")
    if done.returncode != 0:
        return dict(skipped=last_line(done.stderr) if done.returncode > 0 else f"killed by signal {-done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


class Comparison:
    def __init__(self, arguments):
        self.arguments = arguments
        about = machine()
        self.opponents = opponents_of(arguments, about["avx512"])
        self.limit = memory_limit() if arguments.device == "cpu" else None  # CUDA reserves more than it uses
        self.result = dict(command=" ".join([os.path.basename(sys.executable), *sys.argv]),
                           date=datetime.datetime.now().isoformat(timespec="seconds"), machine=about,
                           preset=arguments.preset, device=arguments.device, precision=arguments.precision,
                           threads=arguments.threads, rounds=arguments.rounds, steps=arguments.steps,
                           memory_limit_bytes=self.limit, opponents=self.opponents, runs=[])
        self.hopeless = set()  # (side, variant, optimizer, length) that was skipped once
        self.inputs = {}

    def run(self):
        for opponent in self.opponents:
            print(f"{opponent['name']}: " + (f"absent: {opponent['absent']}" if "absent" in opponent else
                                             f"{opponent['python']}, {kernels_of(opponent)}"), flush=True)
        self.present = [o for o in self.opponents if "absent" not in o]
        if not self.present:
            sys.exit("no PyTorch to compare with")
        with tempfile.TemporaryDirectory() as self.folder:
            for round_ in range(self.arguments.rounds):
                for length in self.arguments.lengths:
                    for optimizer in self.arguments.optimizers:
                        for kind in ("classic", "sparse"):
                            self.run_point(dict(round=round_, length=length, optimizer=optimizer, kind=kind))

    def run_point(self, point):
        ours = self.run_side(point, "sieve", point["kind"], self.sieve_command(point), {})
        variants = (CUDA_VARIANTS if self.arguments.device == "cuda" else VARIANTS)[point["kind"]]
        for opponent in self.present:
            for variant in variants:
                command = [opponent["python"], os.path.join(HERE, "bench_step.py"), *self.shared_flags(point), "--json",
                           f"--attention={variant}", f"--inputs={self.inputs_of(point)}",
                           f"--timed_seconds={self.arguments.timed_seconds}",
                           f"--max_seconds_per_step={self.arguments.max_seconds_per_step}", *opponent.get("flags", [])]
                theirs = self.run_side(point, opponent["name"], variant, command, opponent["environment"])
                check_losses(point, variant, opponent["name"], ours, theirs, TOLERANCE[self.arguments.precision])

    def sizes_of(self, point):
        length = point["length"]
        return dict(seq_len=length, batch_size=max(1, 2048 // length), top_k=top_k_of(length))

    def shared_flags(self, point):
        keys = dict(self.sizes_of(point), preset=self.arguments.preset, steps=self.arguments.steps,
                    threads=self.arguments.threads, optimizer=point["optimizer"], device=self.arguments.device,
                    precision=self.arguments.precision)
        return [f"--{key}={value}" for key, value in keys.items()]

    def inputs_of(self, point):
        """The folder with the weights and tokens that both sides start from, written by the first PyTorch."""
        key = (point["kind"], point["length"])
        if key not in self.inputs:
            self.inputs[key] = os.path.join(self.folder, f"{key[0]}_{key[1]}")
            os.mkdir(self.inputs[key])
            opponent = self.present[0]
            command = [opponent["python"], os.path.join(HERE, "bench_step.py"), *self.shared_flags(point),
                       "--device=cpu", f"--attention={point['kind']}", f"--write_inputs={self.inputs[key]}"]
            subprocess.run(command, check=True, env={**os.environ, **opponent["environment"]})
        return self.inputs[key]

    def sieve_command(self, point):
        folder = self.inputs_of(point)
        return [self.arguments.sieve, "step", *self.shared_flags(point), "--json", f"--attention={point['kind']}",
                f"--checkpoint={folder}/model.pt", f"--tokens={folder}/tokens.npy", f"--targets={folder}/targets.npy"]

    def run_side(self, point, side, variant, command, environment):
        key = (side, variant, point["optimizer"], point["length"])
        if key in self.hopeless:
            return dict(skipped="as before")
        allowed = (self.arguments.steps + 3) * self.arguments.max_seconds_per_step + 300  # for the compilation
        details = run_json(command, environment, self.limit, allowed)
        if side == "sieve" and "skipped" not in details:
            if "sieve_kernels" not in self.result:
                self.result["sieve_kernels"] = details["gemm_backend"]
                print(f"sieve: {details['gemm_backend']}", flush=True)
            details = details[point["kind"]]
            if self.arguments.device == "cuda":
                details["peak_device_bytes"] = details["peak_tensor_bytes"]
        self.result["runs"].append({**details, **point, **self.sizes_of(point), "side": side, "variant": variant})
        if "skipped" in details:
            self.hopeless.add(key)
        note = details.get("skipped") or (f"{1000 * details['seconds_per_step']:.1f} ms, "
                                          f"{mebibytes(details)} MiB")
        print(f"round {point['round'] + 1}/{self.arguments.rounds}, {point['length']} tokens, {point['optimizer']}, "
              f"{variant:<15} {side}: {note}", flush=True)
        self.write()
        return details

    def write(self):
        partial = self.arguments.out + ".part"
        with open(partial, "w") as file:
            json.dump(self.result, file, indent=1)
            file.write("\n")
        os.replace(partial, self.arguments.out)


def top_k_of(length):
    """64 at 128 tokens, 256 at 2048, 512 from 4096 on."""
    return max(1, min(length // 2, 512 if length >= 4096 else 256 if length > 512 else 64 if length <= 128 else 128))


def check_losses(point, variant, name, ours, theirs, tolerance):
    if "skipped" in ours or "skipped" in theirs:
        return
    for loss, mine in ours["first_losses"].items():
        other = theirs["first_losses"][loss]
        if not abs(mine - other) <= tolerance * abs(other):
            sys.exit(f"{point['length']} tokens, {variant}: the first step's {loss} is {mine:.6f} here and {other:.6f} in "
                     f"{name}: this is not the same model")


# ---- the page


def mebibytes(run):
    device = run.get("peak_device_bytes")  # on a GPU
    return round((device or run["peak_process_bytes"]) / 2 ** 20)


def median_of(runs):
    return statistics.median(run["seconds_per_step"] for run in runs)


def matching(runs, **keys):
    return [run for run in runs if all(run[key] == value for key, value in keys.items())]


def cell_of(theirs, ours):
    """"812 ms, 2.31x, 1410 MiB": the ratio is theirs over ours, within rounds."""
    done = [run for run in theirs if "skipped" not in run]
    if not done:
        return f"skipped ({reason(theirs[0]['skipped'])})" if theirs else "not run"
    ours_by_round = {run["round"]: run["seconds_per_step"] for run in ours if "skipped" not in run}
    ratios = [run["seconds_per_step"] / ours_by_round[run["round"]] for run in done if run["round"] in ours_by_round]
    ratio = f", **{statistics.median(ratios):.2f}x**" if ratios else ""
    return f"{1000 * median_of(done):.0f} ms{ratio}, {max(map(mebibytes, done))} MiB"


def reason(skipped):
    if "memory" in skipped or "bad_alloc" in skipped or "allocate" in skipped:
        return "memory"
    if "max_seconds_per_step" in skipped or "not done" in skipped:
        return "time"
    return skipped if len(skipped) < 60 else skipped[:57] + "..."


def table_of(result, optimizer):
    runs = matching(result["runs"], optimizer=optimizer)
    sides = [o["name"] for o in result["opponents"] if "absent" not in o]
    lines = ["| tokens | PyTorch's attention | ours | " + " | ".join(sides) + " |", "|---" * (3 + len(sides)) + "|"]
    for length in sorted({run["length"] for run in runs}):
        for kind in ("classic", "sparse"):
            at = matching(runs, length=length, kind=kind)
            ours = matching(at, side="sieve")
            variants = list(dict.fromkeys(run["variant"] for run in at if run["side"] != "sieve"))
            for variant in variants:
                cells = [cell_of(matching(at, side=side, variant=variant), ours) for side in sides]
                size = f"{at[0]['batch_size']} × {length}" + (f", k = {at[0]['top_k']}" if kind == "sparse" else "")
                lines.append(f"| {size} | {variant} | {cell_of(ours, [])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page_of(result):
    m = result["machine"]
    vectors = "AVX-512" if m["avx512"] else "AVX2" if m["avx2"] else "no AVX2"
    parts = [f"{m['cpu']}, {m['cores']} cores ({vectors}), {m['memory_bytes'] / 2 ** 30:.0f} GiB, {m['os']}; "
             f"{result['threads']} threads, {result['preset']} preset, {result['device']} {result['precision']}; "
             f"{result['date'][:10]}, `{result['command']}`.",
             "Median milliseconds of a step over the rounds, in bold how many times ours that is (median of the rounds' "
             "ratios), and the peak memory of the process."]
    for optimizer, title in (("adamw", "AdamW against AdamW"), ("muon", "Muon against Muon")):
        if matching(result["runs"], optimizer=optimizer):
            parts.append(f"**{title}**\n\n{table_of(result, optimizer)}")
    parts += [f"{o['name']}: absent ({o['absent']})." for o in result["opponents"] if "absent" in o]
    return "\n\n".join(parts) + "\n"


def replace_marked_section(path, name, text):
    """As framework/io/marked_section.h."""
    opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    with open(path) as file:
        page = file.read()
    before, found, rest = page.partition(opening)
    _, found_end, after = rest.partition(closing)
    if not (found and found_end):
        sys.exit(f"{path}: want a line {opening.strip()} and after it a line {closing}")
    with open(path, "w") as file:
        file.write(before + opening + text + closing + after)


def joined(paths):
    """The result of the first file, with the runs of the others."""
    results = []
    for path in paths:
        with open(path) as file:
            results.append(json.load(file))
    first = results[0]
    for other in results[1:]:
        if other["machine"]["cpu"] != first["machine"]["cpu"] or other["threads"] != first["threads"]:
            sys.exit(f"{' '.join(paths)}: not of one machine and number of threads")
        first["runs"] += other["runs"]
        first["command"] += "` and `" + other["command"]
    return first


def main():
    arguments = parse_arguments()
    if arguments.from_json:
        result = joined(arguments.from_json)
    else:
        comparison = Comparison(arguments)
        result = comparison.result
        try:
            comparison.run()
        except KeyboardInterrupt:
            print(f"interrupted: {len(result['runs'])} measurements are in {arguments.out}", file=sys.stderr)
    page = page_of(result)
    print(page)
    if arguments.markdown:
        replace_marked_section(arguments.markdown, "side-by-side", page)


if __name__ == "__main__":
    main()
