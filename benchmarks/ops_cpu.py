"""Times the native operations on the same inputs as their peers: forward, + backward, + double backward.

    python benchmarks/ops_cpu.py [--op convolution linear product gate harmonics bessel] [--threads 1 2] [--cases small] [--repeat 7]

The peer of `edge_convolution` is e3nn's `TensorProduct` + `index_add`; that of the others the reference in torch.
Both are checked to be equal before anything is timed. Times are minima over interleaved repeats, in ms, with the Python and autograd layers; the
ratio is peer / equipot. On one thread the clock is the thread's processor time, which other load on the machine disturbs little; on several it is
wall time, which needs an idle machine.
"""

import argparse
import time
from collections.abc import Callable

import torch
from e3nn import o3
from torch import Tensor

from equipot.math import Irreps
from equipot.nn.gate import Gate
from equipot.ops import reference
from equipot.ops.plan import ConvolutionPlan, Edges, plan_convolution, plan_product
from equipot.ops.registry import REFERENCE, Ops, select

CASES = [  # atoms, edges, l, channels, parity
    (75, 914, 1, 32, "natural"),
    (75, 914, 2, 32, "natural"),
    (75, 914, 3, 32, "natural"),
    (75, 914, 1, 32, "both"),
    (75, 914, 2, 32, "both"),
    (75, 914, 2, 64, "natural"),
    (480, 5850, 1, 32, "natural"),
    (480, 5850, 2, 32, "natural"),
    (1000, 39790, 1, 32, "natural"),
    (1000, 39790, 2, 32, "natural"),
]
LINEAR_CASES = [  # atoms, elements or None, irreps in, irreps out
    (20, 4, "32x0e+32x1o+32x2e", "96x0e+32x1o+32x2e"),
    (135, 4, "32x0e+32x1o+32x2e", "96x0e+32x1o+32x2e"),
    (135, None, "96x0e+128x1o+128x2e", "96x0e+32x1o+32x2e"),
    (135, 4, "128x0e+128x1o", "128x0e+128x1o"),
    (1000, None, "64x0e+64x1o+64x2e", "64x0e+64x1o+64x2e"),
    (5000, 4, "32x0e+32x1o+32x2e", "32x0e+32x1o+32x2e"),
]
PRODUCT_CASES = [  # atoms, elements or None, irreps of A, correlation, irreps kept
    (20, 4, "32x0e+32x1o+32x2e+32x3o", 3, "0e+1o"),
    (135, 4, "32x0e+32x1o+32x2e+32x3o", 3, "0e+1o"),
    (135, 4, "128x0e+128x1o+128x2e+128x3o", 3, "0e+1o"),
    (135, 4, "32x0e+32x1o+32x2e", 4, "0e"),
    (1000, 4, "32x0e+32x1o+32x2e+32x3o", 2, "0e+1o"),
]
GATE_CASES = [  # atoms, irreps of the output
    (75, "32x0e+32x1o+32x2e"),
    (480, "32x0e+32x1o+32x2e"),
    (480, "32x0e+32x0o+32x1e+32x1o+32x2e+32x2o"),
]
HARMONICS_CASES = [(914, 1), (914, 2), (914, 3), (39790, 2)]  # edges, l_max
BESSEL_CASES = [(457, 8), (19895, 8)]  # pairs, functions


def random_edges(n_atoms: int, n_edges: int) -> Edges:
    """About n_edges / n_atoms near neighbours on a ring per atom, so that senders are local as in a sorted structure."""
    degree = max(1, n_edges // n_atoms)
    receiver = torch.arange(n_edges) * n_atoms // n_edges
    sender = (receiver + torch.randint(1, 2 * degree, (n_edges,))) % n_atoms
    by_sender, edge = torch.argsort(sender, stable=True), torch.arange(n_edges)
    pair_edges = torch.stack([edge, edge], dim=1)
    return Edges(sender, receiver, _starts(receiver, n_atoms), by_sender, _starts(sender, n_atoms), edge, pair_edges)


def _starts(index: Tensor, n: int) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(index, minlength=n).cumsum(0)])


def e3nn_convolution(plan: ConvolutionPlan) -> Callable[..., Tensor]:
    """The same operation as nequip does it: uvu TensorProduct on gathered rows, then index_add; rows in e3nn's layout (K, 2l+1)."""
    irreps_in = o3.Irreps([(b.mul, (b.l, b.p)) for b in plan.irreps_in])
    irreps_sh = o3.Irreps.spherical_harmonics(plan.l_max)
    blocks = [(b.l, b.p) for b in plan.irreps_in]
    irreps_mid = o3.Irreps([(p.n_channels, (p.l3, p.p3)) for p in plan.paths])
    instructions = [(blocks.index((p.l1, p.p1)), p.l2, i, "uvu", True) for i, p in enumerate(plan.paths)]
    product = o3.TensorProduct(irreps_in, irreps_sh, irreps_mid, instructions, shared_weights=False, internal_weights=False)

    def convolve(h: Tensor, y: Tensor, w: Tensor, edges: Edges) -> Tensor:
        messages = product(h[edges.sender], y, w)
        return h.new_zeros(h.shape[0], messages.shape[1]).index_add(0, edges.receiver, messages)

    return convolve


def to_e3nn(h: Tensor, irreps: Irreps) -> Tensor:
    """(2l+1, K) blocks to (K, 2l+1) blocks."""
    return torch.cat([h[:, b.start : b.stop].reshape(-1, b.dim, b.mul).transpose(1, 2).flatten(1) for b in irreps], dim=1)


def timers(call: Callable[..., Tensor], *arrays: Tensor) -> list[Callable[[], None]]:
    """The three measured calls: forward; forward and backward; those and the backward of the backward."""
    inputs = [x.detach().clone().requires_grad_() for x in arrays]
    with torch.no_grad():
        cotangent = torch.randn_like(call(*inputs))
    inner = [torch.randn_like(x) for x in inputs]
    cotangent.requires_grad_()

    def forward() -> None:
        call(*inputs)

    def backward() -> None:
        torch.autograd.grad(call(*inputs), inputs, cotangent.detach())

    def double_backward() -> None:
        grads = torch.autograd.grad(call(*inputs), inputs, cotangent, create_graph=True)
        torch.autograd.grad(grads, (cotangent, *inputs), inner)

    return [forward, backward, double_backward]


def best_times(calls: list[Callable[[], None]], repeat: int, budget: float = 0.3) -> list[float]:
    """Minimum ms of each call; the calls take turns, so that a change of load hits all of them."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    best = [float("inf")] * len(calls)
    loops = []
    for call in calls:
        call()
        start = clock()
        call()
        loops.append(max(1, min(50, int(budget / repeat / (clock() - start)))))
    for _ in range(repeat):
        for i, call in enumerate(calls):
            for _ in range(loops[i]):
                start = clock()
                call()
                best[i] = min(best[i], 1e3 * (clock() - start))
    return best


def convolution_case(n_atoms: int, n_edges: int, l: int, channels: int, parity: str, repeat: int, peers: bool) -> str:
    """One line of the table."""
    irreps = Irreps.uniform(channels, l, parity)
    plan = plan_convolution(irreps, l, irreps)
    edges = random_edges(n_atoms, n_edges)
    h, y, w = torch.randn(n_atoms, irreps.dim), torch.randn(n_edges, plan.n_harmonics), torch.randn(n_edges, plan.n_weights)
    ops = select("cpu")
    ours = timers(lambda h, y, w: ops.edge_convolution(h, y, w, edges, plan), h, y, w)
    label = f"{n_atoms}, {n_edges}, l={l}, K={channels}, {parity}"
    if not peers:
        return _line(label, [], ours, repeat)
    product = e3nn_convolution(plan)
    assert_equal(plan, edges, product, ops, h, y, w)
    return _line(label, timers(lambda h, y, w: product(h, y, w, edges), to_e3nn(h, irreps), y, w), ours, repeat)


def linear_case(n_atoms: int, n_elements: int | None, irreps_in: str, irreps_out: str, repeat: int, peers: bool) -> str:
    """One line of the table."""
    rest = Irreps.parse(irreps_in), Irreps.parse(irreps_out)
    n_weights = reference.n_linear_weights(*rest)
    x, w = torch.randn(n_atoms, rest[0].dim), torch.randn((n_weights,) if n_elements is None else (n_elements, n_weights))
    species = None if n_elements is None else torch.randint(n_elements, (n_atoms,))
    return _reference_case(
        f"{n_atoms}, {n_elements}, {irreps_in} to {irreps_out}",
        lambda ops, x, w: ops.irreps_linear(x, w, *rest, species),
        (x, w),
        repeat,
        peers,
    )


def product_case(n_atoms: int, n_elements: int | None, irreps: str, correlation: int, keep: str, repeat: int, peers: bool) -> str:
    """One line of the table."""
    plan = plan_product(Irreps.parse(irreps), correlation, Irreps.parse(keep))
    weights = (plan.n_weights, plan.n_channels)
    a, w = torch.randn(n_atoms, plan.irreps_in.dim), torch.randn(weights if n_elements is None else (n_elements, *weights))
    species = None if n_elements is None else torch.randint(n_elements, (n_atoms,))
    label = f"{n_atoms}, {n_elements}, {irreps}, correlation {correlation} to {keep}"
    return _reference_case(label, lambda ops, a, w: ops.symmetric_product(a, w, plan, species), (a, w), repeat, peers)


def gate_case(n_atoms: int, irreps: str, repeat: int, peers: bool) -> str:
    """One line of the table."""
    gates = {ops: Gate(Irreps.parse(irreps), True, ops) for ops in (select("cpu"), REFERENCE)}
    x = torch.randn(n_atoms, gates[REFERENCE].irreps_in.dim)
    return _reference_case(f"{n_atoms}, {irreps}", lambda ops, x: gates[ops](x), (x,), repeat, peers)


def harmonics_case(n_edges: int, l_max: int, repeat: int, peers: bool) -> str:
    """One line of the table."""
    return _reference_case(
        f"{n_edges}, {l_max}", lambda ops, v: ops.spherical_harmonics(v, l_max), (torch.randn(n_edges, 3),), repeat, peers
    )


def bessel_case(n_pairs: int, n: int, repeat: int, peers: bool) -> str:
    """One line of the table: polynomial envelope, trainable frequencies."""
    r, w = 0.8 + 4.2 * torch.rand(n_pairs), torch.arange(1.0, n + 1) * (torch.pi / 5)
    return _reference_case(
        f"{n_pairs}, {n}", lambda ops, r, w: ops.enveloped_bessel(r, w, 0.4, 5.0, "polynomial", 6), (r, w), repeat, peers
    )


def _reference_case(label: str, call: Callable[..., Tensor], arrays: tuple[Tensor, ...], repeat: int, peers: bool) -> str:
    def of(ops: Ops) -> Callable[..., Tensor]:
        return lambda *arrays: call(ops, *arrays)

    torch.testing.assert_close(of(select("cpu"))(*arrays), of(REFERENCE)(*arrays), rtol=1e-3, atol=1e-3)
    return _line(label, timers(of(REFERENCE), *arrays) if peers else [], timers(of(select("cpu")), *arrays), repeat)


def _line(label: str, theirs: list[Callable[[], None]], ours: list[Callable[[], None]], repeat: int) -> str:
    times = best_times(theirs + ours, repeat)
    if not theirs:
        return f"| {label} | {_row(times)} |"
    ratios = [a / b for a, b in zip(times[:3], times[3:], strict=True)]
    return f"| {label} | {_row(times[:3])} | {_row(times[3:])} | {' / '.join(f'{r:.1f}' for r in ratios)} |"


def assert_equal(plan: ConvolutionPlan, edges: Edges, product: Callable[..., Tensor], ops, h: Tensor, y: Tensor, w: Tensor) -> None:
    """Equal totals per path and component, up to float32 rounding, on a part of the atoms if there are many."""
    out = ops.edge_convolution(h, y, w, edges, plan)
    peer = product(to_e3nn(h, plan.irreps_in), y, w, edges)
    start = 0
    for p in plan.paths:
        d = 2 * p.l3 + 1
        block = out[:, p.out_start : p.out_start + d * p.out_stride].reshape(-1, d, p.out_stride)[..., p.out_channel :][..., : p.n_channels]
        theirs = peer[:, start : start + d * p.n_channels].reshape(-1, p.n_channels, d).transpose(1, 2)
        torch.testing.assert_close(block, theirs, rtol=1e-4, atol=1e-4)
        start += d * p.n_channels
    if plan.n_weights * len(edges.sender) < 1e6:
        torch.testing.assert_close(out, reference.edge_convolution(h, y, w, edges, plan), rtol=1e-4, atol=1e-4)


def _row(times: list[float]) -> str:
    return " / ".join(f"{t:.3f}" if t < 10 else f"{t:.1f}" for t in times)


TABLES = {  # the heading of the first column, the peer, the cases, and how many of them are small
    "convolution": ("atoms, edges", "e3nn", convolution_case, CASES, 6),
    "linear": ("atoms, elements", "reference", linear_case, LINEAR_CASES, 2),
    "gate": ("atoms", "reference", gate_case, GATE_CASES, 2),
    "harmonics": ("edges, l_max", "reference", harmonics_case, HARMONICS_CASES, 2),
    "bessel": ("pairs, functions", "reference", bessel_case, BESSEL_CASES, 1),
    "product": ("atoms, elements", "reference", product_case, PRODUCT_CASES, 2),
}


def main() -> None:
    """Prints one table per operation and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--op", choices=list(TABLES), nargs="+", default=list(TABLES))
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--cases", choices=["all", "small"], default="all")
    parser.add_argument("--no-peers", action="store_true", help="time equipot only")
    args = parser.parse_args()
    torch.manual_seed(0)
    for op in args.op:
        heading, peer, run_case, cases, n_small = TABLES[op]
        for threads in args.threads:
            torch.set_num_threads(threads)
            print(f"\n{op}, {select('cpu').describe()}, {threads} threads, float32; ms forward / + backward / + double backward")
            print(
                f"| {heading} | equipot |\n|---|---|" if args.no_peers else f"| {heading} | {peer} | equipot | ratio |\n|---|---|---|---|"
            )
            for case in cases if args.cases == "all" else cases[:n_small]:
                print(run_case(*case, repeat=args.repeat, peers=not args.no_peers), flush=True)


if __name__ == "__main__":
    main()
