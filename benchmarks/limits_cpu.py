"""How near the native convolution comes to what the machine can do: operations and bytes counted, beside measured matrix products and copies.

    python benchmarks/limits_cpu.py [--threads 2] [--repeat 7]

Counted for the forward pass, float32, of the algorithm as it is: B[m1, m3] = Σ C Y once per edge and path (2 operations per non-zero C), then per
channel two operations per non-zero of B and two per component of the result (weight and sum). Bytes: what must be moved at least once, every array read
or written once: weights, harmonics and indices of the edges, features and results of the atoms. Ceilings: a product of two 1024² matrices, and a copy of
256 MiB (read and written bytes). A share near one of either says what limits (arrays that stay in a cache may pass the copy's rate); both small, that the
work of an edge is short against what surrounds it. Needs an idle machine.
"""

import argparse

import numpy as np
import torch
from ops_cpu import CASES, best_times, random_edges, timers

from equipot.math import Irreps
from equipot.ops.plan import ConvolutionPlan, plan_convolution
from equipot.ops.registry import select


def operations(plan: ConvolutionPlan, n_edges: int) -> float:
    """Additions and multiplications of the forward pass."""
    per_edge = 0
    for path in plan.paths:
        coefficients = np.abs(path.coefficients) > 1e-12
        coupled = int(coefficients.any(axis=1).sum())
        per_edge += 2 * int(coefficients.sum()) + path.n_channels * (2 * coupled + 2 * (2 * path.l3 + 1))
    return float(per_edge) * n_edges


def least_bytes(plan: ConvolutionPlan, n_atoms: int, n_edges: int) -> float:
    """Bytes of all arrays of the forward pass, float32; two indices of 8 bytes per edge."""
    per_edge = 4 * (plan.n_weights + plan.n_harmonics) + 16
    return float(n_edges * per_edge + n_atoms * 4 * (plan.irreps_in.dim + plan.irreps_out.dim))


def machine(repeat: int) -> tuple[float, float]:
    """GFLOP/s of a matrix product and GB/s of a copy."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    source, target = torch.randn(1 << 26), torch.empty(1 << 26)
    product_ms, copy_ms = best_times([lambda: a @ b, lambda: target.copy_(source)], repeat)
    return 2 * 1024**3 / product_ms / 1e6, 2 * source.nbytes / copy_ms / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    products, copies = machine(args.repeat)
    print(f"{args.threads} threads: matrix product {products:.0f} GFLOP/s, copy {copies:.1f} GB/s\n")
    print("| atoms, edges, l, K, parity | forward, ms | MFLOP | MB | GFLOP/s | of the product | GB/s | of the copy |\n" + "|---" * 8 + "|")
    ops = select("cpu")
    for n_atoms, n_edges, l, channels, parity in CASES:
        irreps = Irreps.uniform(channels, l, parity)
        plan = plan_convolution(irreps, l, irreps)
        edges = random_edges(n_atoms, n_edges)
        arrays = torch.randn(n_atoms, irreps.dim), torch.randn(n_edges, plan.n_harmonics), torch.randn(n_edges, plan.n_weights)
        call = timers(lambda h, y, w, edges=edges, plan=plan: ops.edge_convolution(h, y, w, edges, plan), *arrays)[0]
        with torch.no_grad():
            (ms,) = best_times([call], args.repeat)
        flops, moved = operations(plan, n_edges) / 1e6, least_bytes(plan, n_atoms, n_edges) / 1e6
        rates = f"{flops / ms:.0f} | {100 * flops / ms / products:.0f} % | {moved / ms:.1f} | {100 * moved / ms / copies:.0f} %"
        print(f"| {n_atoms}, {n_edges}, {l}, {channels}, {parity} | {ms:.3f} | {flops:.2f} | {moved:.2f} | {rates} |", flush=True)


if __name__ == "__main__":
    main()
