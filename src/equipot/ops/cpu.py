"""`edge_convolution` in C++: the same signature, values and derivatives as `ops.reference`, to second order.

The operation A(h, y, w) is linear in each argument, so its derivatives are three fused calls: forward, backward (gh, gy, gw) and double backward.
They are `torch.library` operations (namespace `equipot`), which compiled and traced code sees; eager code reaches the same rules through
`autograd.Function`, because the dispatcher's Python layer would cost more than a small graph's convolution.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from equipot.ops import native
from equipot.ops.plan import ConvolutionPlan, Edges

_N_INPUTS = 8  # h, y, w, four index tensors, plan
_SUFFIX = {torch.float32: "f32", torch.float64: "f64"}
_keys: dict[int, tuple[ConvolutionPlan, str]] = {}  # by id: hashing a plan costs more than a small convolution


def edge_convolution(h: Tensor, y: Tensor, w: Tensor, edges: Edges, plan: ConvolutionPlan) -> Tensor:
    """Gather, couple, weight and sum to receivers; see `equipot.ops.reference.edge_convolution`.

    Args: h (N, irreps_in.dim), y (E, (l_max+1)²), w (E, n_weights), all float32 or all float64, on the CPU. Returns (N, irreps_out.dim).
    Differentiable twice; a third derivative raises NotImplementedError. Raises NativeError for an index out of range, and ValueError for a
    wrong shape or dtype.
    """
    indices = (edges.sender, edges.receiver_start, edges.by_sender, edges.sender_start)
    if torch.compiler.is_compiling():
        return torch.ops.equipot.edge_convolution(h, y, w, *indices, native.plan_key(plan))
    if _plain(h, y, w):
        return _Forward.apply(h, y, w, *indices, _key(plan))
    return torch.ops.equipot.edge_convolution(h, y, w, *indices, _key(plan))


def _key(plan: ConvolutionPlan) -> str:
    found = _keys.get(id(plan))
    if found is None:
        found = _keys[id(plan)] = (plan, native.plan_key(plan))  # the reference keeps the id from being used again
    return found[1]


def _plain(*tensors: Tensor | None) -> bool:
    """Whether these are ordinary tensors that nothing is tracing."""
    if torch._C._len_torch_dispatch_stack() or torch._C._functorch.maybe_current_level() is not None:
        return False
    return all(t is None or type(t) is Tensor or type(t) is torch.nn.Parameter for t in tensors)


# ---- kernels: plain tensors in, plain tensors out ----


def _forward_kernel(h, y, w, sender, receiver_start, by_sender, sender_start, plan: str) -> Tensor:
    native_plan = native.plan_of_key(plan)
    arrays = _contiguous(native_plan, {"h": h, "y": y, "w": w}, sender, h.shape[0])
    out = h.new_empty(h.shape[0], native_plan.out_dim)
    _call("convolution", native_plan, h, (sender, receiver_start, by_sender, sender_start), [*arrays, out])
    return out


def _backward_kernel(g, h, y, w, sender, receiver_start, by_sender, sender_start, plan: str, need: list[bool]) -> tuple[Tensor, ...]:
    native_plan = native.plan_of_key(plan)
    arrays = _contiguous(native_plan, {"g": g, "h": h, "y": y, "w": w}, sender, h.shape[0])
    outputs = [_output(x, wanted) for x, wanted in zip(arrays[1:], need, strict=True)]
    work = _workspace(native_plan, sender, outputs[0])
    _call("convolution_backward", native_plan, h, (sender, receiver_start, by_sender, sender_start), [*arrays, *outputs, work])
    return _filled(outputs, h)


def _double_backward_kernel(a, b, c, g, h, y, w, sender, receiver_start, by_sender, sender_start, plan: str, need: list[bool]):
    native_plan = native.plan_of_key(plan)
    named = {"a": a, "b": b, "c": c, "g": g, "h": h, "y": y, "w": w}
    arrays = _contiguous(native_plan, named, sender, h.shape[0])
    outputs = [_output(x, wanted) for x, wanted in zip(arrays[3:], need, strict=True)]
    work = _workspace(native_plan, sender, outputs[1])
    _call("convolution_double_backward", native_plan, h, (sender, receiver_start, by_sender, sender_start), [*arrays, *outputs, work])
    return _filled(outputs, h)


_ROWS = {"a": "h", "b": "y", "c": "w"}  # a cotangent has the shape of what it belongs to


def _contiguous(plan: native.NativePlan, named: dict[str, Tensor | None], sender: Tensor, n_atoms: int) -> list[Tensor | None]:
    """The tensors as dense arrays; ValueError unless each has the plan's shape and all are of one dtype, on the CPU."""
    widths = {"h": plan.h_dim, "y": plan.y_dim, "w": plan.w_dim, "g": plan.out_dim}
    n_edges = sender.shape[0]
    dtype = named["h"].dtype
    result: list[Tensor | None] = []
    for name, x in named.items():
        if x is not None:
            kind = _ROWS.get(name, name)
            shape = (n_edges if kind in "yw" else n_atoms, widths[kind])
            if x.shape != shape or x.dtype != dtype or x.dtype not in _SUFFIX or not x.is_cpu:
                raise ValueError(f"edge_convolution: {name} is {tuple(x.shape)} {x.dtype} on {x.device}; expected {shape} {dtype} on cpu")
            x = x.contiguous()
        result.append(x)
    return result


def _output(like: Tensor, wanted: bool) -> Tensor | None:
    return torch.empty_like(like) if wanted else None


def _workspace(plan: native.NativePlan, sender: Tensor, gh: Tensor | None) -> Tensor | None:
    return None if gh is None else gh.new_empty(sender.shape[0] * plan.h_dim)


def _filled(outputs: list[Tensor | None], like: Tensor) -> tuple[Tensor, ...]:
    """An operation must return tensors: an empty one stands for what was not wanted."""
    return tuple(like.new_empty(0) if x is None else x for x in outputs)


_NOTHING = torch.zeros(1)


def _address(x: Tensor) -> int:
    """Where the numbers are; an empty tensor has no address, but is not a missing one."""
    return x.data_ptr() or _NOTHING.data_ptr()


def _call(name: str, plan: native.NativePlan, h: Tensor, indices: tuple[Tensor, ...], arrays: list[Tensor | None]) -> None:
    lib = native.library()
    n_atoms, n_edges = h.shape[0], indices[0].shape[0]
    for index, length in zip(indices, (n_edges, n_atoms + 1, n_edges, n_atoms + 1), strict=True):
        if index.dtype != torch.int64 or index.shape != (length,) or not index.is_contiguous():
            raise ValueError(f"edge_convolution: an index is {tuple(index.shape)} {index.dtype}; expected ({length},) int64, contiguous")
    edges = native.EdgesStruct(n_atoms, n_edges, *(_address(index) for index in indices))
    pointers = [None if x is None else _address(x) for x in arrays]
    function = getattr(lib, f"equipot_{name}_{_SUFFIX[h.dtype]}")
    native.check(lib, function(plan.handle, ctypes.byref(edges), torch.get_num_threads(), *pointers))


# ---- autograd rules, shared by the two ways in ----


def _backward(g, h, y, w, *indices_and_plan: Any, need: list[bool]) -> tuple[Tensor, ...]:
    if _plain(g, h, y, w):
        return _Backward.apply(g, h, y, w, *indices_and_plan, need)
    return torch.ops.equipot.edge_convolution_backward(g, h, y, w, *indices_and_plan, need)


def _double_backward(*args: Any, need: list[bool]) -> tuple[Tensor, ...]:
    if _plain(*args[:7]):
        return _DoubleBackward.apply(*args, need)
    return torch.ops.equipot.edge_convolution_double_backward(*args, need)


def _save(ctx: Any, inputs: tuple, n_tensors: int) -> None:
    ctx.save_for_backward(*inputs[:n_tensors])
    ctx.plan = inputs[n_tensors]
    ctx.set_materialize_grads(False)


def _forward_rule(ctx: Any, g: Tensor | None) -> tuple:
    if g is None:
        return (None,) * _N_INPUTS
    need = list(ctx.needs_input_grad[:3])
    grads = _backward(g, *ctx.saved_tensors, ctx.plan, need=need)
    return (*_only(grads, need), *(None,) * (_N_INPUTS - 3))


def _backward_rule(ctx: Any, *cotangents: Tensor | None) -> tuple:
    n_nothing = _N_INPUTS - 3 + 1  # indices, plan, need
    cotangents = tuple(x if wanted else None for x, wanted in zip(cotangents, ctx.need, strict=True))
    need = list(ctx.needs_input_grad[:4])
    if all(x is None for x in cotangents):
        return (None,) * (4 + n_nothing)
    grads = _double_backward(*cotangents, *ctx.saved_tensors, ctx.plan, need=need)
    return (*_only(grads, need), *(None,) * n_nothing)


def _double_backward_rule(ctx: Any, *cotangents: Tensor | None) -> tuple:
    raise NotImplementedError("edge_convolution on the cpu backend has no third derivative: build the model with backend='reference' for one")


def _only(grads: tuple[Tensor, ...], need: list[bool]) -> list[Tensor | None]:
    return [x if wanted else None for x, wanted in zip(grads, need, strict=True)]


def _setup_forward(ctx: Any, inputs: tuple, output: Tensor) -> None:
    _save(ctx, inputs, 7)


def _setup_backward(ctx: Any, inputs: tuple, output: tuple) -> None:
    _save(ctx, inputs[:-1], 8)
    ctx.need = list(inputs[-1])


def _setup_double_backward(ctx: Any, inputs: tuple, output: tuple) -> None:
    pass


class _Forward(Function):
    """`edge_convolution` of eager code."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        _setup_forward(ctx, inputs, None)
        return _forward_kernel(*inputs)

    backward = staticmethod(_forward_rule)


class _Backward(Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        _setup_backward(ctx, inputs, ())
        return _backward_kernel(*inputs)

    backward = staticmethod(_backward_rule)


class _DoubleBackward(Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        return _double_backward_kernel(*inputs)

    backward = staticmethod(_double_backward_rule)


# ---- torch.library ----

_INDICES = "Tensor sender, Tensor receiver_start, Tensor by_sender, Tensor sender_start, str plan"
_library = torch.library.Library("equipot", "DEF")


def _fake_forward(h, y, w, sender, receiver_start, by_sender, sender_start, plan: str) -> Tensor:
    return h.new_empty(h.shape[0], native.plan_of_key(plan).out_dim)


def _fake_backward(g, h, y, w, sender, receiver_start, by_sender, sender_start, plan: str, need: list[bool]) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) if wanted else x.new_empty(0) for x, wanted in zip((h, y, w), need, strict=True))


def _fake_double_backward(a, b, c, g, h, y, w, sender, receiver_start, by_sender, sender_start, plan: str, need: list[bool]):
    return tuple(x.new_empty(x.shape) if wanted else x.new_empty(0) for x, wanted in zip((g, h, y, w), need, strict=True))


def _register(name: str, arguments: str, result: str, kernel, fake, rule, setup) -> None:
    _library.define(f"{name}({arguments}) -> {result}", tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, kernel, "CPU")
    torch.library.register_fake(f"equipot::{name}", fake, lib=_library)
    torch.library.register_autograd(f"equipot::{name}", rule, setup_context=setup, lib=_library)


def _register_all() -> None:
    tensors = "Tensor h, Tensor y, Tensor w"
    _register("edge_convolution", f"{tensors}, {_INDICES}", "Tensor", _forward_kernel, _fake_forward, _forward_rule, _setup_forward)
    _register(
        "edge_convolution_backward",
        f"Tensor g, {tensors}, {_INDICES}, bool[] need",
        "(Tensor, Tensor, Tensor)",
        _backward_kernel,
        _fake_backward,
        _backward_rule,
        _setup_backward,
    )
    _register(
        "edge_convolution_double_backward",
        f"Tensor? a, Tensor? b, Tensor? c, Tensor g, {tensors}, {_INDICES}, bool[] need",
        "(Tensor, Tensor, Tensor, Tensor)",
        _double_backward_kernel,
        _fake_double_backward,
        _double_backward_rule,
        _setup_double_backward,
    )


_register_all()
