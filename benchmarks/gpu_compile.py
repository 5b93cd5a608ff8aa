"""Compiles the Triton kernels for GPUs that are not here: python benchmarks/gpu_compile.py [--arch 80 90 …] [--quick].

Needs the package triton, which brings NVIDIA's assembler along, and no GPU. The operations are called as they are on a GPU, with a launch that
compiles instead of running; what comes out is the machine code a GPU of that architecture would get, with its use of registers, and of the stack,
where registers do not suffice (spills). Exit status 1 if a kernel does not compile or spills more bytes a thread
than SPILLED allows.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from equipot.math import Irreps
from equipot.ops.native import plan_key
from equipot.ops.plan import plan_convolution, plan_product
from equipot.ops.triton import convolution, product

SPILLED = {torch.float32: 256, torch.float64: 1024}  # of l 3, whose kernels are held to fewer registers so that more of them run at once
TYPES = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int64: "*i64"}
CONVOLUTIONS = {  # features, degree of the harmonics
    "l 1, 64 channels": ("64x0e+64x1o", 1),
    "l 2, 32 channels": ("32x0e+32x1o+32x2e", 2),
    "l 2, both parities": ("32x0e+32x0o+32x1e+32x1o+32x2e+32x2o", 2),
    "l 3, 64 channels": ("64x0e+64x1o+64x2e+64x3o", 3),
    "MACE, 128 channels": ("128x0e+128x1o", 3),
}
PRODUCTS = {  # density, correlation, message
    "ν 2, L 1": ("128x0e+128x1o+128x2e+128x3o", 2, "128x0e+128x1o"),
    "ν 3, L 0": ("128x0e+128x1o+128x2e+128x3o", 3, "128x0e"),
    "ν 3, L 1": ("128x0e+128x1o+128x2e+128x3o", 3, "128x0e+128x1o"),
}
QUICK = ("l 1, 64 channels", "ν 2, L 1")
ATOMS, EDGES = 8, 40  # of the arrays, which are never read


class Compiled(NamedTuple):
    """A kernel's use of the device, per thread."""

    name: str
    registers: int
    stack: int  # bytes


class Compiler:
    """A launch that compiles; see `equipot.ops.triton.launch.Launch`."""

    def __init__(self, arch: int):
        self.target, self.found = GPUTarget("cuda", arch, 32), list[Compiled]()

    def __call__(self, kernel: Any, grid: tuple[int], *arguments: Any, **options: Any) -> None:
        constants = {name: value for name, value in options.items() if name in kernel.arg_names}
        arrays = {i: x for i, x in enumerate(arguments) if isinstance(x, Tensor)}
        signature = {
            name: TYPES[arrays[i].dtype] if i in arrays else "i32" for i, name in enumerate(kernel.arg_names) if name not in constants
        }
        signature |= dict.fromkeys(constants, "constexpr")
        places = {name: (i,) for i, name in enumerate(kernel.arg_names)}
        source = ASTSource(
            kernel, signature, {places[name]: value for name, value in constants.items()}, {(i,): [["tt.divisibility", 16]] for i in arrays}
        )
        compiled = triton.compile(source, target=self.target, options={k: v for k, v in options.items() if k not in constants})
        self.found.append(Compiled(kernel.__name__, *_resources(compiled.asm["cubin"])))


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of stack of the one kernel in an object file."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True).stdout
    fields = dict(field.split(":") for field in text.splitlines()[-1].split() if field.count(":") == 1)
    return int(fields["REG"]), int(fields["STACK"]) + int(fields["LOCAL"])


# ---- the operations as a training uses them ----


def compile_convolution(irreps: str, l_max: int, dtype: torch.dtype, launch: Compiler) -> None:
    """Forward, the backward to the positions, and the double backward and backward to the weights."""
    plan = plan_convolution(Irreps.parse(irreps), l_max, Irreps.parse(irreps))
    h, y, w, g = (
        torch.empty(rows, width, dtype=dtype)
        for rows, width in ((ATOMS, plan.irreps_in.dim), (EDGES, plan.n_harmonics), (EDGES, plan.n_weights), (ATOMS, plan.irreps_out.dim))
    )
    edge, atom = torch.empty(EDGES, dtype=torch.int64), torch.empty(ATOMS + 1, dtype=torch.int64)
    indices = edge, edge, atom, edge, atom, plan_key(plan)
    convolution._forward(launch, h, y, w, *indices)
    convolution._backward(launch, g, h, y, w, *indices, [True, True, True])
    convolution._backward(launch, g, h, y, w, *indices, [True, False, True])
    convolution._double_backward(launch, h, y, w, g, h, y, w, *indices, [True, True, False, True])


def compile_product(irreps: str, correlation: int, out: str, dtype: torch.dtype, launch: Compiler) -> None:
    """Forward, the backward to the positions, and the double backward and backward to the weights."""
    plan = plan_product(Irreps.parse(irreps), correlation, Irreps.parse(out))
    a, g = (torch.empty(ATOMS, width, dtype=dtype) for width in (plan.irreps_in.dim, plan.irreps_out.dim))
    w = torch.empty(4, plan.n_weights, plan.n_channels, dtype=dtype)
    species, key = torch.empty(ATOMS, dtype=torch.int64), product.plan_key(plan)
    product._forward(launch, a, w, species, key)
    product._backward(launch, g, a, w, species, key, [True, False])
    product._backward(launch, g, a, w, species, key, [True, True])
    product._double_backward(launch, a, None, g, a, w, species, key, [True, True, True])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--arch", type=int, nargs="+", default=[90], help="compute capabilities: 80 is an A100, 90 an H100 or H200, 100 a B200"
    )
    parser.add_argument("--quick", action="store_true", help="two cases, float32")
    options = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        raise SystemExit("TRITON_INTERPRET is set: the interpreter compiles nothing; unset it")
    cases: dict[str, tuple[Callable, tuple]] = {k: (compile_convolution, v) for k, v in CONVOLUTIONS.items()}
    cases |= {k: (compile_product, v) for k, v in PRODUCTS.items()}
    print(f"triton {triton.__version__}, torch {torch.__version__}; registers, and bytes of stack, per thread\n")
    print("| case | type | sm | kernels | registers | stack |\n|---|---|---|---|---|---|", flush=True)
    bad = False
    for arch in options.arch:
        for name in QUICK if options.quick else cases:
            for dtype in (torch.float32,) if options.quick else (torch.float32, torch.float64):
                launch = Compiler(arch)
                compile_case, arguments = cases[name]
                compile_case(*arguments, dtype, launch)
                registers, stack = (", ".join(str(getattr(k, field)) for k in launch.found) for field in ("registers", "stack"))
                print(
                    f"| {name} | {str(dtype).removeprefix('torch.')} | {arch} | {len(launch.found)} | {registers} | {stack} |", flush=True
                )
                worst = max(k.stack for k in launch.found)
                if worst > SPILLED[dtype]:
                    bad = True
                    print(f"{name}, {dtype}: a kernel spills {worst} bytes a thread, more than {SPILLED[dtype]}", file=sys.stderr)
    return int(bad)


if __name__ == "__main__":
    raise SystemExit(main())
