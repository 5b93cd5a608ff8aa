"""Checks and times the Triton operations and captured training on a GPU in one run: python benchmarks/gpu.py [--quick] [--json FILE] [--markdown FILE].

`edge_convolution` for l ≤ 1, 2, 3, 32, 64 and 128 channels, 10 thousand to 1 million edges of a crystal: forward, with first backward, with double
backward; beside it e3nn's TensorProduct + index_add, the reference operations, and openequivariance and cuequivariance where they can be imported.
`symmetric_product` likewise. Values and gradients are compared before anything is timed. Times are medians between CUDA events, the cache emptied
before each run: *eager*, as Python calls it, and *captured*, as a replayed CUDA graph, without the host's part. Limits are the bytes that must move
and the operations that must be done, at the rates measured on the same device. Then whole updates of NequIP, BOTNet and MACE (`gpu_training.py`).
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch
import triton
import triton.language as tl
from gpu_peers import Contestant, convolution_makers, product_makers, version
from gpu_report import MODES, Result, markdown, report
from gpu_training import MODELS, Training
from gpu_training import markdown as training_markdown
from gpu_training import run as run_training
from torch import Tensor

from equipot.math import Irreps
from equipot.ops import reference
from equipot.ops.plan import ConvolutionPlan, Edges, ProductPlan, plan_convolution, plan_product
from equipot.ops.triton.convolution import edge_convolution
from equipot.ops.triton.product import symmetric_product
from equipot.ops.triton.product_source import groups

SIZES = {"10k": (6, 46), "160k": (15, 48), "1M": (27, 51)}  # atoms along an edge of the crystal, neighbours of each
PRODUCTS = ("0e", "0e+1o", "0e+1o+2e")
SLOW = {"e3nn", "reference"}
SLOW_LIMIT = 4e9  # numbers in their array of messages; beyond, they are left out
N_ELEMENTS = 4


# ---- inputs ----


def crystal(side: int, degree: int) -> Edges:
    """Simple cubic, periodic; every atom receives from its `degree` nearest, atoms in the order of their cells."""
    reach = torch.arange(-4, 5)
    offsets = torch.stack(torch.meshgrid(reach, reach, reach, indexing="ij"), -1).reshape(-1, 3)
    offsets = offsets[torch.argsort((offsets**2).sum(1), stable=True)][1 : degree + 1]
    cells = torch.stack(torch.meshgrid(*[torch.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    place = (cells + offsets) % side
    sender = ((place[..., 0] * side + place[..., 1]) * side + place[..., 2]).sort(dim=1).values.reshape(-1)
    receiver = torch.arange(side**3).repeat_interleave(degree)
    starts = [torch.searchsorted(x, torch.arange(side**3 + 1)) for x in (receiver, sender.sort().values)]
    tensors = (sender, receiver, starts[0], torch.argsort(sender, stable=True), starts[1])
    return Edges(*(x.cuda() for x in tensors), None, None)


def convolution_plan(l_max: int, channels: int) -> ConvolutionPlan:
    """Every path of natural parity."""
    irreps = Irreps.uniform(channels, l_max)
    return plan_convolution(irreps, l_max, irreps)


def product_plan(keep: str) -> ProductPlan:
    """MACE's: 128 channels of l ≤ 3, correlation 3."""
    return plan_product(Irreps.uniform(128, 3), 3, Irreps.parse(keep))


def random(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Standard normal numbers."""
    generator = torch.Generator("cuda").manual_seed(0)
    return [torch.randn(shape, generator=generator, device="cuda", dtype=dtype).requires_grad_() for shape in shapes]


def convolution_inputs(plan: ConvolutionPlan, edges: Edges, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """h, y, w."""
    n_atoms, n_edges = len(edges.receiver_start) - 1, len(edges.sender)
    return random((n_atoms, plan.irreps_in.dim), (n_edges, plan.n_harmonics), (n_edges, plan.n_weights), dtype=dtype)


# ---- limits ----


@triton.jit
def multiply_add(result, steps, BLOCK: tl.constexpr):
    """Eight independent chains of multiply-adds per thread."""
    x = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    f = x.to(tl.float32) * 1e-9
    a, b, c, d, e, g, h, i = f, f + 1.0, f + 2.0, f + 3.0, f + 4.0, f + 5.0, f + 6.0, f + 7.0
    for _ in range(0, steps):
        a, b, c, d = a * f + 1.0, b * f + 2.0, c * f + 3.0, d * f + 4.0
        e, g, h, i = e * f + 5.0, g * f + 6.0, h * f + 7.0, i * f + 8.0
    tl.store(result + x, a + b + c + d + e + g + h + i)


def ceilings() -> dict[str, float]:
    """Bytes/s of a device-to-device copy (read and written), and operations/s of float32 multiply-adds."""
    source = torch.empty(2**30, device="cuda")
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / (1e-3 * median_time(lambda: target.copy_(source)))
    threads, steps = 256 * 132 * 32, 8192
    result = torch.empty(threads, device="cuda")
    seconds = 1e-3 * median_time(lambda: multiply_add[(threads // 256,)](result, steps, BLOCK=256, num_warps=8))
    return {"copy": copy, "fp32": 2 * 8 * threads * steps / seconds}


def convolution_work(plan: ConvolutionPlan, n_atoms: int, n_edges: int) -> list[tuple[float, float]]:
    """(bytes, operations) of each mode: every array read or written once; couplings with Y made once per edge for all channels."""
    h, y, w, out = plan.irreps_in.dim, plan.n_harmonics, plan.n_weights, plan.irreps_out.dim
    pairs = sum(p.n_channels * int((p.coefficients != 0).any(axis=1).sum()) for p in plan.paths)
    rows = sum(p.n_channels * (2 * p.l3 + 1) for p in plan.paths)
    terms = sum(int((p.coefficients != 0).sum()) for p in plan.paths)
    numbers = [
        n_edges * (w + y) + n_atoms * (h + out),
        n_edges * 2 * (w + y) + n_atoms * (2 * h + out),
        n_edges * 3 * (w + y) + n_atoms * (3 * h + 2 * out),
    ]
    products = [pairs + rows + terms, 3 * pairs + 2 * rows + 2 * terms, 7 * pairs + 5 * rows + 3 * terms]
    return [(4.0 * sum(numbers[: i + 1]), 2.0 * n_edges * sum(products[: i + 1])) for i in range(3)]


def product_work(plan: ProductPlan, n_atoms: int) -> list[tuple[float, float]]:
    """As `convolution_work`; a statement is 1 multiply-add forward, 3 backward and 6 in the double backward; weights are few."""
    a, out = plan.irreps_in.dim, plan.irreps_out.dim
    statements = sum(len(group) for group in groups(plan)) * plan.n_channels
    numbers, products = [a + out, 2 * a + out, 3 * a + 2 * out], [statements, 3 * statements, 6 * statements]
    return [(4.0 * n_atoms * sum(numbers[: i + 1]), 2.0 * n_atoms * sum(products[: i + 1])) for i in range(3)]


# ---- timing ----


def median_time(call: Callable[[], object], budget: float = 0.08) -> float:
    """Median ms between events, the cache emptied before each run."""
    flush = torch.empty(2**26, device="cuda")
    call()
    times: list[float] = []
    spent = 0.0
    while len(times) < 3 or (spent < budget and len(times) < 50):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        flush.zero_()
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
        spent += 1e-3 * times[-1]
        if times[-1] > 1000.0:
            break
    return statistics.median(times)


def captured(call: Callable[[], object]) -> Callable[[], object]:
    """The call as a CUDA graph's replay."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
        call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def calls(contestant: Contestant) -> list[Callable[[], object]]:
    """The three modes."""
    operation, inputs = contestant.call, contestant.inputs
    with torch.no_grad():
        g = torch.randn_like(operation(*inputs)).requires_grad_()
        along = [torch.randn_like(x) for x in inputs]

    def forward() -> object:
        with torch.no_grad():
            return operation(*inputs)

    def backward() -> object:
        return torch.autograd.grad(operation(*inputs), inputs, g.detach())

    def double_backward() -> object:
        first = torch.autograd.grad(operation(*inputs), inputs, g, create_graph=True)
        return torch.autograd.grad(first, (g, *inputs), along, allow_unused=True)

    return [forward, backward, double_backward]


def time_contestant(result: Result, name: str, contestant: Contestant) -> None:
    """Fills in its times; a mode or way that fails is noted."""
    modes = calls(contestant)
    for way in ("eager", "captured") if contestant.capture else ("eager",):
        times = result.times.setdefault(name, {}).setdefault(way, [])
        for mode, call in zip(MODES, modes, strict=True):
            try:
                times.append(median_time(call if way == "eager" else captured(call)))
            except Exception as error:
                result.notes[f"{name}, {way}, {mode}"] = _one_line(error)
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
                break


def _one_line(error: Exception) -> str:
    return "out of memory" if isinstance(error, torch.OutOfMemoryError) else f"{type(error).__name__}: {error}".splitlines()[0][:160]


# ---- checks ----


def distance(x: Tensor, exact: Tensor) -> float:
    """‖x − exact‖ / ‖exact‖."""
    return float((x.double() - exact.double()).norm() / exact.double().norm())


def check_derivatives(operation: Callable, exact_operation: Callable, inputs: list[Tensor]) -> float:
    """The largest distance of value, first and second derivatives in float32 from the reference's in float64."""
    results = []
    for call, dtype in ((operation, torch.float32), (exact_operation, torch.float64)):
        x = [i.detach().to(dtype).requires_grad_() for i in inputs]
        out = call(*x)
        g = torch.sin(torch.arange(out.numel(), device="cuda", dtype=torch.float64)).reshape(out.shape).to(dtype).requires_grad_()
        first = torch.autograd.grad(out, x, g, create_graph=True)
        second = torch.autograd.grad(first, (g, *x), [i.detach().flip(0).to(dtype) for i in inputs])
        results.append([out, *first, *second])
    return max(distance(a.detach(), b.detach()) for a, b in zip(*results, strict=True))


def check_determinism(operation: Callable, inputs: list[Tensor]) -> float:
    """The largest difference between two runs, in the second derivatives."""
    call = calls(Contestant(operation, inputs))[2]
    torch.manual_seed(0)
    return max(float((a - b).abs().max()) for a, b in zip(call(), call(), strict=True))


def check_contestant(result: Result, name: str, contestant: Contestant, ours: Tensor) -> None:
    """The distance of its output from equipot's."""
    if name != "equipot" and contestant.to_ours is not None:
        with torch.no_grad():
            result.errors[name] = distance(contestant.to_ours(contestant.call(*contestant.inputs)), ours)


# ---- cases ----


def run_case(result: Result, makers: dict[str, Callable], arguments: tuple, ours: Callable[[], Tensor], skip: set[str]) -> Result:
    """Every contestant of one case in turn."""
    with torch.no_grad():
        expected = ours()
    for name, maker in makers.items():
        if name in skip:
            result.notes[name] = "left out: too slow or too large"
            continue
        begin = time.monotonic()
        try:
            contestant = maker(*arguments)
            check_contestant(result, name, contestant, expected)
            time_contestant(result, name, contestant)
        except Exception as error:
            result.notes[name] = _one_line(error)
        result.seconds[name] = round(time.monotonic() - begin, 1)
        torch.cuda.empty_cache()
    return result


def built(makers: dict[str, Callable[[], Callable]], notes: dict[str, str]) -> dict[str, Callable]:
    """Those that can be built."""
    result = {}
    for name, build in makers.items():
        try:
            result[name] = build()
        except Exception as error:
            notes[name] = _one_line(error)
    return result


def run_convolution(l_max: int, channels: int, sizes: list[str], rates: dict[str, float], without: list[str]) -> list[Result]:
    """One plan on graphs of several sizes."""
    plan, results, notes = convolution_plan(l_max, channels), [], {}
    makers = built({n: m for n, m in convolution_makers(plan).items() if n not in without}, notes)
    for size in sizes:
        edges = crystal(*SIZES[size])
        n_atoms, n_edges = len(edges.receiver_start) - 1, len(edges.sender)
        inputs = convolution_inputs(plan, edges)
        work = convolution_work(plan, n_atoms, n_edges)
        case = {
            "l_max": l_max,
            "channels": channels,
            "atoms": n_atoms,
            "edges": n_edges,
            "bytes": [b for b, _ in work],
            "operations": [f for _, f in work],
        }
        result = Result(case, [1e3 * max(b / rates["copy"], f / rates["fp32"]) for b, f in work], notes=dict(notes))
        if size == "10k":
            result.errors["equipot, derivatives"] = check_derivatives(
                lambda h, y, w, e=edges: edge_convolution(h, y, w, e, plan),
                lambda h, y, w, e=edges: reference.edge_convolution(h, y, w, e, plan),
                inputs,
            )
            result.errors["equipot, two runs"] = check_determinism(lambda h, y, w, e=edges: edge_convolution(h, y, w, e, plan), inputs)
        skip = SLOW if n_edges * plan.irreps_out.dim > SLOW_LIMIT else set()
        results.append(run_case(result, makers, (edges, inputs), lambda x=inputs, e=edges: edge_convolution(*x, e, plan), skip))
        report(results[-1])
    return results


def run_product(keep: str, sizes: list[int], rates: dict[str, float], without: list[str]) -> list[Result]:
    """One plan on several numbers of atoms."""
    plan, results, notes = product_plan(keep), [], {}
    makers = built({n: m for n, m in product_makers(plan, N_ELEMENTS).items() if n not in without}, notes)
    for n_atoms in sizes:
        species = torch.arange(n_atoms, device="cuda") * 7 % N_ELEMENTS
        inputs = random((n_atoms, plan.irreps_in.dim), (N_ELEMENTS, plan.n_weights, plan.n_channels))
        work = product_work(plan, n_atoms)
        case = {"to": keep, "channels": 128, "atoms": n_atoms, "bytes": [b for b, _ in work], "operations": [f for _, f in work]}
        result = Result(case, [1e3 * max(b / rates["copy"], f / rates["fp32"]) for b, f in work], notes=dict(notes))
        if n_atoms <= 1000:
            result.errors["equipot, derivatives"] = check_derivatives(
                lambda a, w, s=species: symmetric_product(a, w, plan, s),
                lambda a, w, s=species: reference.symmetric_product(a, w, plan, s),
                inputs,
            )
        results.append(run_case(result, makers, (species, inputs), lambda x=inputs, s=species: symmetric_product(*x, plan, s), set()))
        report(results[-1])
    return results


def warm(task: tuple) -> None:
    """Compiles the kernels of one plan, so that Triton's cache has them; or builds what peers build when they are first imported."""
    if task == ("peers",):
        version("openequivariance")
        return
    if task[0] == "train":
        run_training(task[1], seconds=0.0)
        return
    if isinstance(task[0], int):
        plan = convolution_plan(*task)
        edges = crystal(3, 5)
        contestant = Contestant(lambda h, y, w: edge_convolution(h, y, w, edges, plan), convolution_inputs(plan, edges))
    else:
        plan = product_plan(task[0])
        species = torch.zeros(8, dtype=torch.int64, device="cuda")
        inputs = random((8, plan.irreps_in.dim), (N_ELEMENTS, plan.n_weights, plan.n_channels))
        contestant = Contestant(lambda a, w: symmetric_product(a, w, plan, species), inputs)
    for call in calls(contestant):
        call()
    torch.cuda.synchronize()


def main() -> None:
    """Runs everything; a machine without a GPU is told so."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="64 channels, 160 thousand edges and 1,000 atoms only")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--without", nargs="*", default=[], help="names of contestants to leave out")
    parser.add_argument("--no-training", action="store_true", help="the operations alone")
    parser.add_argument("--minutes", type=float, default=8.0, help="nothing new is begun after seven eighths of it")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py needs a GPU: there is none here; tests/ops/test_gpu_*.py run without one")
    begin = time.monotonic()
    plans = [(l, k) for k in ([64] if args.quick else [64, 128, 32]) for l in (1, 2, 3)]
    models = [] if args.no_training else list(MODELS)
    compile_all([("peers",), *(("train", name) for name in models), *plans, *((keep,) for keep in PRODUCTS)])
    print(f"kernels compiled in {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    rates = ceilings()
    header = describe(rates)
    sections: dict[str, list[Result]] = {"edge_convolution": [], "symmetric_product": []}
    trainings: list[Training] = []
    for task in [*plans[:3], *PRODUCTS, *(("train", name) for name in models), *plans[3:]]:
        if time.monotonic() - begin > 52.5 * args.minutes:
            header["not run for want of time"] = f"{header.get('not run for want of time', '')} {task}"
        elif task[0] == "train":
            trainings += [run_training(task[1], optimizer=optimizer) for optimizer in ("adam", "soap")]
            print(*(asdict(t) for t in trainings[-2:]), sep="\n", file=sys.stderr, flush=True)
        elif isinstance(task, tuple):
            sections["edge_convolution"] += run_convolution(*task, ["160k"] if args.quick else list(SIZES), rates, args.without)
        else:
            sections["symmetric_product"] += run_product(task, [1000] if args.quick else [1000, 10000], rates, args.without)
        header["seconds"] = f"{time.monotonic() - begin:.0f}"
        if args.markdown:
            args.markdown.write_text("\n".join([markdown(header, sections), *training_markdown(trainings)]))
        if args.json:
            found = {k: [asdict(r) for r in v] for k, v in {**sections, "training": trainings}.items()}
            args.json.write_text(json.dumps({"header": header, **found}, indent=1))
    print(markdown(header, sections), *training_markdown(trainings), sep="\n")
    if any(not t.agrees for t in trainings if t.name.endswith("adam")):
        sys.exit("captured updates do not have the losses of ordinary ones: see above")


def compile_all(tasks: list[tuple]) -> None:
    """`warm` of every task, side by side."""
    with ProcessPoolExecutor(min(14, os.cpu_count() or 1), multiprocessing.get_context("spawn")) as pool:
        list(pool.map(warm, tasks))


def describe(rates: dict[str, float]) -> dict[str, object]:
    """Device, versions and ceilings."""
    header = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "triton": triton.__version__, "CUDA": torch.version.cuda}
    header |= {name: version(name) for name in ("e3nn", "openequivariance", "cuequivariance_torch") if version(name)}
    header["copy"] = f"{rates['copy'] / 1e12:.2f} TB/s"
    header["float32"] = f"{rates['fp32'] / 1e12:.1f} TFLOP/s"
    header["date"] = date.today().isoformat()
    return header


if __name__ == "__main__":
    main()
