"""`symmetric_product` in Triton, to correlation 3: the same signature, values and derivatives as `ops.reference`, to second order; deterministic.

Three operations as in `convolution`: forward, backward (ga, gw) and double backward. What kernels are not written for (correlation 4, very many
couplings) runs on the reference, and says so once.
"""

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from equipot.math import Irreps
from equipot.ops import reference
from equipot.ops.passes import wanted
from equipot.ops.plan import ProductPlan, plan_product
from equipot.ops.triton import launch as launching
from equipot.ops.triton.launch import Launch
from equipot.ops.triton.product_source import (
    ProductGiven,
    ProductNeed,
    backward_source,
    double_backward_source,
    forward_source,
    n_blocks,
    supported,
)
from equipot.ops.triton.segments import element_sums
from equipot.ops.triton.source import TYPE_NAMES, load_module

_CHANNELS = 1  # per thread
_WARPS = {"num_warps": 1}
_log = logging.getLogger(__name__)
_keys: dict[int, tuple[ProductPlan, str | None]] = {}  # by id


def symmetric_product(a: Tensor, weight: Tensor, plan: ProductPlan, species: Tensor | None = None) -> Tensor:
    """Weighted symmetric products of A with itself, channel by channel; see `equipot.ops.reference.symmetric_product`.

    Args: a (N, irreps_in.dim); weight (n_weights, K), or (n_elements, n_weights, K) with species (N,) int64. Returns (N, irreps_out.dim).
    Differentiable twice; a third derivative raises NotImplementedError. Raises ValueError for a wrong shape, dtype or device.
    """
    key = plan_key(plan) if torch.compiler.is_compiling() else kept_key(plan)
    if key is None:
        return reference.symmetric_product(a, weight, plan, species)
    if species is None:
        weight, species = weight.unsqueeze(0), torch.zeros(a.shape[0], dtype=torch.int64, device=a.device)
    if not torch.compiler.is_compiling() and launching.plain(a, weight):
        return _Forward.apply(a, weight, species, key)
    return gpu_symmetric_product(a, weight, species, key)


def plan_key(plan: ProductPlan) -> str | None:
    """A plan as text; None if kernels are not written for it."""
    return f"{plan.irreps_in}|{plan.correlation}|{plan.irreps_out}" if supported(plan) else None


@cache
def parse(key: str) -> ProductPlan:
    """The plan of a key."""
    irreps_in, correlation, irreps_out = key.split("|")
    return plan_product(Irreps.parse(irreps_in), int(correlation), Irreps.parse(irreps_out))


def kept_key(plan: ProductPlan) -> str | None:
    """The same, made once; where kernels are not written a line says so."""
    found = _keys.get(id(plan))
    if found is None:
        found = _keys[id(plan)] = (plan, plan_key(plan))
        if found[1] is None:
            _log.warning("the symmetric product of correlation %d to %s runs on the reference operation", plan.correlation, plan.irreps_out)
    return found[1]


# ---- the three operations: tensors in, tensors out ----


@cache
def forward_kernel(key: str, dtype: torch.dtype) -> Any:
    """The kernel of a plan."""
    return load_module(forward_source(parse(key), _CHANNELS, TYPE_NAMES[dtype])).kernel


@cache
def backward_kernel(key: str, dtype: torch.dtype, need: ProductNeed) -> Any:
    """The kernel of a plan."""
    return load_module(backward_source(parse(key), _CHANNELS, TYPE_NAMES[dtype], need)).kernel


@cache
def double_backward_kernel(key: str, dtype: torch.dtype, given: ProductGiven, need: ProductNeed) -> Any:
    """The kernel of a plan."""
    return load_module(double_backward_source(parse(key), _CHANNELS, TYPE_NAMES[dtype], given, need)).kernel


def _forward(launch: Launch, a: Tensor, w: Tensor, species: Tensor, key: str) -> Tensor:
    plan = parse(key)
    a, w = _check(plan, species, a=a, w=w)
    out = a.new_empty(a.shape[0], plan.irreps_out.dim)
    launch(forward_kernel(key, a.dtype), _grid(plan, a), a, w, out, species, **_WARPS)
    return out


def _backward(launch: Launch, g: Tensor, a: Tensor, w: Tensor, species: Tensor, key: str, need: Sequence[bool]) -> tuple[Tensor, Tensor]:
    plan, need = parse(key), ProductNeed(*need)
    g, a, w = _check(plan, species, g=g, a=a, w=w)
    da, dw = _outputs(plan, need, a)
    launch(backward_kernel(key, a.dtype, need), _grid(plan, a), g, a, w, da, dw, species, **_WARPS)
    return da, _per_element(launch, dw, w, species, need)


def _double_backward(
    launch: Launch,
    along_a: Tensor | None,
    along_w: Tensor | None,
    g: Tensor,
    a: Tensor,
    w: Tensor,
    species: Tensor,
    key: str,
    need: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    plan, given, need = parse(key), ProductGiven(along_a is not None, along_w is not None), ProductNeed(*need[1:], need[0])
    along_a, along_w, g, a, w = _check(plan, species, along_a=along_a, along_w=along_w, g=g, a=a, w=w)
    da, dw = _outputs(plan, need, a)
    dg = torch.empty_like(g) if need.g else g.new_empty(0)
    along = [a if x is None else x for x in (along_a, along_w)]  # a kernel reads none that is not given
    launch(double_backward_kernel(key, a.dtype, given, need), _grid(plan, a), *along, g, a, w, dg, da, dw, species, **_WARPS)
    return dg, da, _per_element(launch, dw, w, species, need)


def _grid(plan: ProductPlan, a: Tensor) -> tuple[int]:
    return (a.shape[0] * n_blocks(plan, _CHANNELS),)


def _outputs(plan: ProductPlan, need: ProductNeed, a: Tensor) -> tuple[Tensor, Tensor]:
    """Room for the gradients of A, and of the weights per atom."""
    return torch.empty_like(a) if need.a else a.new_empty(0), a.new_empty(a.shape[0] if need.w else 0, plan.n_weights * plan.n_channels)


def _per_element(launch: Launch, dw: Tensor, w: Tensor, species: Tensor, need: ProductNeed) -> Tensor:
    return element_sums(launch, dw, species, w.shape[0]).reshape(w.shape) if need.w else dw.new_empty(0)


def _check(plan: ProductPlan, species: Tensor, **named: Tensor | None) -> list[Tensor | None]:
    """The tensors as the kernels read them; ValueError unless each has the plan's shape, one dtype and one device."""
    a, w = named["a"], named["w"]
    n = a.shape[0]
    shapes = {"a": (n, plan.irreps_in.dim), "g": (n, plan.irreps_out.dim), "w": (w.shape[0], plan.n_weights, plan.n_channels)}
    shapes |= {"along_a": shapes["a"], "along_w": shapes["w"]}
    if species.shape != (n,) or species.dtype != torch.int64:
        raise ValueError(f"symmetric_product: species is {tuple(species.shape)} {species.dtype}; expected ({n},) int64")
    result: list[Tensor | None] = []
    for name, x in named.items():
        if x is not None:
            if x.shape != shapes[name] or x.dtype != a.dtype or x.dtype not in TYPE_NAMES or x.device != a.device:
                found = f"{tuple(x.shape)} {x.dtype} on {x.device}"
                raise ValueError(f"symmetric_product: {name} is {found}; expected {shapes[name]} {a.dtype} on {a.device}")
            x = launching.aligned(x)
        result.append(x)
    return result


# ---- autograd rules, shared by the two ways in ----


def _forward_rule(ctx: Any, g: Tensor | None) -> tuple:
    need = wanted(ctx, 2)
    if g is None or not any(need):
        return (None,) * 4
    run = _Backward.apply if launching.plain(g, *ctx.saved_tensors[:2]) else gpu_symmetric_product_backward
    return (*launching.only(run(g, *ctx.saved_tensors, ctx.key, need), need), None, None)


def _backward_rule(ctx: Any, *cotangents: Tensor | None) -> tuple:
    cotangents = launching.only(cotangents, ctx.need)
    need = wanted(ctx, 3)
    if all(x is None for x in cotangents) or not any(need):
        return (None,) * 6
    run = _DoubleBackward.apply if launching.plain(*cotangents, *ctx.saved_tensors[:3]) else gpu_symmetric_product_double_backward
    return (*launching.only(run(*cotangents, *ctx.saved_tensors, ctx.key, need), need), None, None, None)


def _double_backward_rule(ctx: Any, *cotangents: Tensor | None) -> tuple:
    raise NotImplementedError(
        "symmetric_product on the gpu backend has no third derivative: build the model with backend='reference' for one"
    )


def _setup_forward(ctx: Any, inputs: tuple, output: Tensor | None) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.key = inputs[3]
    ctx.set_materialize_grads(False)


def _setup_backward(ctx: Any, inputs: tuple, output: tuple | None) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.key, ctx.need = inputs[4], list(inputs[5])
    ctx.set_materialize_grads(False)


def _setup_double_backward(ctx: Any, inputs: tuple, output: tuple | None) -> None:
    pass


class _Forward(Function):
    """`symmetric_product` of eager code."""

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


@torch.library.triton_op("equipot::gpu_symmetric_product", mutates_args={})
def gpu_symmetric_product(a: Tensor, w: Tensor, species: Tensor, plan: str) -> Tensor:
    """`symmetric_product` with weights per element, its plan as text."""
    return _forward(launching.traced, a, w, species, plan)


@torch.library.triton_op("equipot::gpu_symmetric_product_backward", mutates_args={})
def gpu_symmetric_product_backward(
    g: Tensor, a: Tensor, w: Tensor, species: Tensor, plan: str, need: Sequence[bool]
) -> tuple[Tensor, Tensor]:
    """Gradients of a and w; an empty tensor stands for one that is not wanted."""
    return _backward(launching.traced, g, a, w, species, plan, need)


@torch.library.triton_op("equipot::gpu_symmetric_product_double_backward", mutates_args={})
def gpu_symmetric_product_double_backward(
    along_a: Tensor | None, along_w: Tensor | None, g: Tensor, a: Tensor, w: Tensor, species: Tensor, plan: str, need: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ⟨along_a, ga⟩ + ⟨along_w, gw⟩ with respect to g, a and w."""
    return _double_backward(launching.traced, along_a, along_w, g, a, w, species, plan, need)


gpu_symmetric_product.register_autograd(_forward_rule, setup_context=_setup_forward)
gpu_symmetric_product_backward.register_autograd(_backward_rule, setup_context=_setup_backward)
gpu_symmetric_product_double_backward.register_autograd(_double_backward_rule, setup_context=_setup_double_backward)
