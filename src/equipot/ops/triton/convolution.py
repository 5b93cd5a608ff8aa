"""`edge_convolution` in Triton: the same signature, values and derivatives as `ops.reference`, to second order; deterministic.

A(h, y, w) is linear in each argument, so its derivatives are three operations: forward, backward (gh, gy, gw) and double backward. Compiled and
exported code sees them as `torch.library` operations that hold their Triton kernels; eager code reaches the same rules through
`autograd.Function`, because the dispatcher's Python layer costs more than a small graph's convolution.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from equipot.ops.native import plan_key
from equipot.ops.passes import wanted
from equipot.ops.plan import ConvolutionPlan, Edges
from equipot.ops.triton import launch as launching
from equipot.ops.triton.convolution_parts import KernelPlan, Tuning, n_slots, parse
from equipot.ops.triton.convolution_source import Given, Need, backward_source, double_backward_source, forward_source
from equipot.ops.triton.launch import Launch
from equipot.ops.triton.segments import partial_sums, segment_sums
from equipot.ops.triton.source import TYPE_NAMES, load_module

_FULL = 4096  # warps that keep a large GPU busy
_keys: dict[int, tuple[ConvolutionPlan, str]] = {}  # by id: hashing a plan costs more than a small convolution


def edge_convolution(h: Tensor, y: Tensor, w: Tensor, edges: Edges, plan: ConvolutionPlan) -> Tensor:
    """Gather, couple, weight and sum to receivers; see `equipot.ops.reference.edge_convolution`.

    Args: h (N, irreps_in.dim), y (E, (l_max+1)²), w (E, n_weights), all float32 or all float64, on a GPU. Returns (N, irreps_out.dim).
    Edges past receiver_start[N], the padding of a captured graph, are left out, and their gradients are zero.
    Differentiable twice; a third derivative raises NotImplementedError. Raises ValueError for a wrong shape, dtype or device.
    """
    arrays = (h, y, w, edges.sender, edges.receiver, edges.receiver_start, edges.by_sender, edges.sender_start)
    if torch.compiler.is_compiling():
        return gpu_edge_convolution(*arrays, plan_key(plan))
    key = _key(plan)
    if launching.plain(h, y, w):
        return _Forward.apply(*arrays, key)
    return gpu_edge_convolution(*arrays, key)


def _key(plan: ConvolutionPlan) -> str:
    found = _keys.get(id(plan))
    if found is None:
        found = _keys[id(plan)] = (plan, plan_key(plan))  # the reference keeps the id from being used again
    return found[1]


# ---- kernels of a plan ----


_LONG = 150  # coupling coefficients from which on the code of all parts is longer than the instruction cache


def forward_tuning(plan: KernelPlan, dtype: torch.dtype) -> Tuning:
    """How the forward is cut."""
    if dtype == torch.float32:
        return Tuning(channels=4, sums=84, rows=36, registers=128 if plan.l_max > 1 else None)
    return Tuning(channels=2, sums=42, rows=36)


def backward_tuning(plan: KernelPlan, dtype: torch.dtype) -> Tuning:
    """How the backward is cut."""
    by_part = plan.n_terms > _LONG
    if dtype == torch.float32:
        return Tuning(channels=2 if plan.l_max > 1 else 4, sums=64, rows=32, registers=128 if plan.l_max > 1 else None, by_part=by_part)
    return Tuning(channels=1, sums=32, rows=32, by_part=by_part)


def double_backward_tuning(plan: KernelPlan, dtype: torch.dtype) -> Tuning:
    """How the double backward is cut."""
    rows, by_part = 24 if plan.l_max > 1 else 0, plan.n_terms > _LONG
    if dtype == torch.float32:
        return Tuning(channels=2, sums=42, rows=rows, registers=168 if plan.l_max > 1 else None, by_part=by_part)
    return Tuning(channels=1, sums=21, rows=rows, by_part=by_part)


def goes_by_sender(plan: KernelPlan, need: Need) -> bool:
    """Whether the backward takes each sender's edges: gathering g then costs less than writing and reading a row of dh per edge."""
    return need.h and plan.out_dim <= 2.5 * plan.h_dim and plan.reads_all


class Kernel(NamedTuple):
    """A generated kernel, its programs per receiver and its launch options."""

    kernel: Any
    slots: int
    options: dict[str, int]


@cache
def forward_kernel(key: str, dtype: torch.dtype) -> Kernel:
    """The forward of a plan."""
    tuning = forward_tuning(parse(key), dtype)
    return _kernel(key, forward_source(parse(key), tuning, TYPE_NAMES[dtype]), tuning)


@cache
def backward_kernel(key: str, dtype: torch.dtype, need: Need) -> Kernel:
    """The backward of a plan."""
    tuning = backward_tuning(parse(key), dtype)
    text = backward_source(parse(key), tuning, TYPE_NAMES[dtype], need, goes_by_sender(parse(key), need))
    return _kernel(key, text, tuning)


@cache
def double_backward_kernel(key: str, dtype: torch.dtype, given: Given, need: Need) -> Kernel:
    """The double backward of a plan."""
    tuning = double_backward_tuning(parse(key), dtype)
    return _kernel(key, double_backward_source(parse(key), tuning, TYPE_NAMES[dtype], given, need), tuning)


def _kernel(key: str, text: str, tuning: Tuning) -> Kernel:
    options = {"num_warps": 1} | ({"maxnreg": tuning.registers} if tuning.registers else {})
    return Kernel(load_module(text).kernel, n_slots(parse(key), tuning), options)


# ---- the three operations: tensors in, tensors out ----


def _forward(launch: Launch, h, y, w, sender, receiver, receiver_start, by_sender, sender_start, key: str) -> Tensor:
    plan = parse(key)
    h, y, w = _check(plan, sender, h=h, y=y, w=w)
    kernel, slots, options = forward_kernel(key, h.dtype)
    sizes = _sizes(launch, h, sender, slots)
    out = h.new_empty(sizes[2], h.shape[0], plan.out_dim)
    launch(kernel, _grid(sizes, slots), h, y, w, out, sender, receiver_start, *sizes, **options)
    return partial_sums(out, 0)


def _backward(
    launch: Launch, g, h, y, w, sender, receiver, receiver_start, by_sender, sender_start, key: str, need
) -> tuple[Tensor, Tensor, Tensor]:
    plan, need = parse(key), Need(*need)
    g, h, y, w = _check(plan, sender, g=g, h=h, y=y, w=w)
    kernel, slots, options = backward_kernel(key, h.dtype, need)
    sizes = _sizes(launch, h, sender, slots)
    if goes_by_sender(plan, need):
        _, dy, dw = _edge_outputs(plan, slots, need._replace(h=False), h, y, w)
        dh = h.new_empty(sizes[2], *h.shape)
        launch(kernel, _grid(sizes, slots), g, h, y, w, dh, dy, dw, by_sender, receiver, sender_start, *sizes, **options)
        return partial_sums(dh, 0), *_finish_edges(dy, dw)
    dh, dy, dw = _edge_outputs(plan, slots, need, h, y, w)
    launch(kernel, _grid(sizes, slots), g, h, y, w, dh, dy, dw, sender, receiver_start, *sizes, **options)
    return _finish_atoms(launch, dh, by_sender, sender_start), *_finish_edges(dy, dw)


def _double_backward(
    launch: Launch, a, b, c, g, h, y, w, sender, receiver, receiver_start, by_sender, sender_start, key: str, need
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    plan, given, need = parse(key), Given(a is not None, b is not None, c is not None), Need(*need[1:], need[0])
    a, b, c, g, h, y, w = _check(plan, sender, a=a, b=b, c=c, g=g, h=h, y=y, w=w)
    kernel, slots, options = double_backward_kernel(key, h.dtype, given, need)
    sizes = _sizes(launch, h, sender, slots)
    dh, dy, dw = _edge_outputs(plan, slots, need, h, y, w)
    dg = g.new_empty(sizes[2], *g.shape) if need.g else g.new_empty(0)
    cotangents = [h if x is None else x for x in (a, b, c)]  # a kernel reads none that is not given
    launch(kernel, _grid(sizes, slots), *cotangents, g, h, y, w, dg, dh, dy, dw, sender, receiver_start, *sizes, **options)
    dg = partial_sums(dg, 0) if need.g else dg
    return dg, _finish_atoms(launch, dh, by_sender, sender_start), *_finish_edges(dy, dw)


def _sizes(launch: Launch, h: Tensor, sender: Tensor, slots: int) -> tuple[int, int, int]:
    """Atoms, edges, and programs that share an atom's edges: as many as fill the device, 8 at most; one in traced code, which serves all sizes."""
    split = 1 if launch is launching.traced else max(1, min(8, _FULL // max(1, h.shape[0] * slots)))
    return h.shape[0], sender.shape[0], split


def _grid(sizes: tuple[int, int, int], slots: int) -> tuple[int]:
    return (sizes[0] * slots * sizes[2],)


def _edge_outputs(plan: KernelPlan, slots: int, need: Need, h: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Room for gradients per edge: of h (E, h_dim), of y (E, slots, y_dim), of w; empty where it is not wanted."""
    dh = (h.new_empty if plan.reads_all else h.new_zeros)(w.shape[0], plan.h_dim) if need.h else h.new_empty(0)
    dy = y.new_empty(w.shape[0], slots, plan.y_dim) if need.y else y.new_empty(0)
    return dh, dy, torch.empty_like(w) if need.w else w.new_empty(0)


def _finish_atoms(launch: Launch, dh: Tensor, by_sender: Tensor, sender_start: Tensor) -> Tensor:
    """Sums over each sender's edges."""
    return segment_sums(launch, dh, by_sender, sender_start) if dh.dim() == 2 else dh


def _finish_edges(dy: Tensor, dw: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the programs that share an edge."""
    return partial_sums(dy, 1) if dy.dim() == 3 else dy, dw


def _check(plan: KernelPlan, sender: Tensor, **named: Tensor | None) -> list[Tensor | None]:
    """The tensors as the kernels read them; ValueError unless each has the plan's shape, one dtype and one device."""
    h = named["h"]
    n_atoms, n_edges = h.shape[0], sender.shape[0]
    shapes = {"h": (n_atoms, plan.h_dim), "y": (n_edges, plan.y_dim), "w": (n_edges, plan.w_dim), "g": (n_atoms, plan.out_dim)}
    shapes |= {"a": shapes["h"], "b": shapes["y"], "c": shapes["w"]}
    result: list[Tensor | None] = []
    for name, x in named.items():
        if x is not None:
            if x.shape != shapes[name] or x.dtype != h.dtype or x.dtype not in TYPE_NAMES or x.device != h.device:
                found = f"{tuple(x.shape)} {x.dtype} on {x.device}"
                raise ValueError(f"edge_convolution: {name} is {found}; expected {shapes[name]} {h.dtype} on {h.device}")
            x = launching.aligned(x)
        result.append(x)
    return result


# ---- autograd rules, shared by the two ways in ----

_N_INDICES = 6  # five index tensors, key


def _forward_rule(ctx: Any, g: Tensor | None) -> tuple:
    need = wanted(ctx, 3)
    if g is None or not any(need):
        return (None,) * (3 + _N_INDICES)
    run = _Backward.apply if launching.plain(g, *ctx.saved_tensors[:3]) else gpu_edge_convolution_backward
    grads = run(g, *ctx.saved_tensors, ctx.key, need)
    return (*launching.only(grads, need), *(None,) * _N_INDICES)


def _backward_rule(ctx: Any, *cotangents: Tensor | None) -> tuple:
    cotangents = launching.only(cotangents, ctx.need)
    need = wanted(ctx, 4)
    if all(x is None for x in cotangents) or not any(need):
        return (None,) * (4 + _N_INDICES + 1)
    run = _DoubleBackward.apply if launching.plain(*cotangents, *ctx.saved_tensors[:4]) else gpu_edge_convolution_double_backward
    grads = run(*cotangents, *ctx.saved_tensors, ctx.key, need)
    return (*launching.only(grads, need), *(None,) * (_N_INDICES + 1))


def _double_backward_rule(ctx: Any, *cotangents: Tensor | None) -> tuple:
    raise NotImplementedError(
        "edge_convolution on the gpu backend has no third derivative: build the model with backend='reference' for one"
    )


def _setup_forward(ctx: Any, inputs: tuple, output: Tensor | None) -> None:
    ctx.save_for_backward(*inputs[:8])
    ctx.key = inputs[8]
    ctx.set_materialize_grads(False)


def _setup_backward(ctx: Any, inputs: tuple, output: tuple | None) -> None:
    ctx.save_for_backward(*inputs[:9])
    ctx.key, ctx.need = inputs[9], list(inputs[10])
    ctx.set_materialize_grads(False)


def _setup_double_backward(ctx: Any, inputs: tuple, output: tuple | None) -> None:
    pass


class _Forward(Function):
    """`edge_convolution` of eager code."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        _setup_forward(ctx, inputs, None)
        return _forward(launching.direct, *inputs)

    backward = staticmethod(_forward_rule)


class _Backward(Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        _setup_backward(ctx, inputs, None)
        return _backward(launching.direct, *inputs)

    backward = staticmethod(_backward_rule)


class _DoubleBackward(Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        return _double_backward(launching.direct, *inputs)

    backward = staticmethod(_double_backward_rule)


# ---- torch.library ----


@torch.library.triton_op("equipot::gpu_edge_convolution", mutates_args={})
def gpu_edge_convolution(
    h: Tensor, y: Tensor, w: Tensor,
    sender: Tensor, receiver: Tensor, receiver_start: Tensor, by_sender: Tensor, sender_start: Tensor, plan: str,
) -> Tensor:  # fmt: skip
    """`edge_convolution`, its plan as text."""
    return _forward(launching.traced, h, y, w, sender, receiver, receiver_start, by_sender, sender_start, plan)


@torch.library.triton_op("equipot::gpu_edge_convolution_backward", mutates_args={})
def gpu_edge_convolution_backward(
    g: Tensor, h: Tensor, y: Tensor, w: Tensor,
    sender: Tensor, receiver: Tensor, receiver_start: Tensor, by_sender: Tensor, sender_start: Tensor, plan: str, need: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of h, y and w; an empty tensor stands for one that is not wanted."""
    return _backward(launching.traced, g, h, y, w, sender, receiver, receiver_start, by_sender, sender_start, plan, need)


@torch.library.triton_op("equipot::gpu_edge_convolution_double_backward", mutates_args={})
def gpu_edge_convolution_double_backward(
    a: Tensor | None, b: Tensor | None, c: Tensor | None, g: Tensor, h: Tensor, y: Tensor, w: Tensor,
    sender: Tensor, receiver: Tensor, receiver_start: Tensor, by_sender: Tensor, sender_start: Tensor, plan: str, need: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of ⟨a, gh⟩ + ⟨b, gy⟩ + ⟨c, gw⟩ with respect to g, h, y and w."""
    return _double_backward(launching.traced, a, b, c, g, h, y, w, sender, receiver, receiver_start, by_sender, sender_start, plan, need)


gpu_edge_convolution.register_autograd(_forward_rule, setup_context=_setup_forward)
gpu_edge_convolution_backward.register_autograd(_backward_rule, setup_context=_setup_backward)
gpu_edge_convolution_double_backward.register_autograd(_double_backward_rule, setup_context=_setup_double_backward)
