"""A perceptron without biases as one operation: first and second derivative by hand, in few matrix products.

Autograd's own second derivative of it makes some ten times as many small operations, which on a small batch cost more than their arithmetic.

    z_i = a_{i−1} W_i,  a_i = f(z_i),  a_0 = x,  result z_n
    backward of <g, z_n>:        δ_n = g,  p_i = δ_{i+1} W_{i+1}ᵀ,  δ_i = p_i f'(z_i);   gx = p_0,  gW_i = a_{i−1}ᵀ δ_i
    and of <v, gx> + Σ <c_i, gW_i>, which is <g, ż_n> along x + εv, W + εc:
                                 ż_i = ȧ_{i−1} W_i + a_{i−1} c_i,  ȧ_i = f'(z_i) ż_i,  ȧ_0 = v;   dg = ż_n
                                 q_i = ε_{i+1} W_{i+1}ᵀ + δ_{i+1} c_{i+1}ᵀ,  ε_i = q_i f'(z_i) + p_i ż_i f''(z_i),  ε_n = 0
                                 dx = q_0,  dW_i = ȧ_{i−1}ᵀ δ_i + a_{i−1}ᵀ ε_i
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from equipot.ops.passes import wanted

aten = torch.ops.aten


class Derivatives(NamedTuple):
    """f(z), g f'(z) and u f''(z), the last two with a = f(z) at hand."""

    value: Callable[[Tensor], Tensor]
    first: Callable[[Tensor, Tensor, Tensor], Tensor]
    second: Callable[[Tensor, Tensor, Tensor], Tensor]


def _silu_second(u: Tensor, z: Tensor, a: Tensor) -> Tensor:
    """f'' = s (1 − s) (2 + z − 2a), s = sigmoid(z)."""
    return aten.sigmoid_backward(u, torch.sigmoid(z)).mul_(torch.add(z, a, alpha=-2).add_(2))


DERIVATIVES = {
    "silu": Derivatives(torch.nn.functional.silu, lambda g, z, a: aten.silu_backward(g, z), _silu_second),
    "tanh": Derivatives(torch.tanh, lambda g, z, a: aten.tanh_backward(g, a), lambda u, z, a: aten.tanh_backward(u, a).mul_(a).mul_(-2)),
}


def perceptron(x: Tensor, weights: Sequence[Tensor], factors: Sequence[float], activation: str) -> Tensor:
    """f(… f(x s_1 W_1) …) s_n W_n, differentiable twice; a third derivative raises RuntimeError.

    Args: x (R, K_0); weights W_i (K_{i−1}, K_i); factors s_i; activation f, a key of DERIVATIVES. Returns (R, K_n).
    """
    scaled = [w * s for w, s in zip(weights, factors, strict=True)]
    return _Perceptron.apply(x, *scaled, DERIVATIVES[activation])


class _Perceptron(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *rest: Any) -> Tensor:
        *weights, f = rest
        z, a = [], [x]
        for w in weights[:-1]:
            z.append(a[-1] @ w)
            a.append(f.value(z[-1]))
        ctx.save_for_backward(x, *weights)
        ctx.f, ctx.z, ctx.a = f, z, a[1:]
        return a[-1] @ weights[-1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return backward_rule(ctx, g, _PerceptronGradient, _backward)


def backward_rule(ctx: Any, g: Tensor, gradient: type[Function], kernel: Callable) -> tuple[Tensor | None, ...]:
    """gx and all gW that this pass will use, by a Function that can be differentiated again or by what it computes."""
    x, *weights = ctx.saved_tensors
    need_x, *need_w = wanted(ctx, 1 + len(weights))
    need = need_x, any(need_w)
    grads = gradient.apply(g, x, *weights, ctx, need) if torch.is_grad_enabled() else kernel(g, x, weights, ctx, need)[0]
    gx, *gw = grads
    return gx if need[0] else None, *(t if need[1] else None for t in gw), None


def _backward(g: Tensor, x: Tensor, weights: Sequence[Tensor], saved: Any, need: tuple[bool, bool]) -> tuple[list[Tensor], ...]:
    """gx and all gW (an empty tensor for what is not needed); δ_1 … δ_n; p_1 … p_{n−1}."""
    deltas, pulls = [g], []
    for w, z, a in zip(weights[:0:-1], saved.z[::-1], saved.a[::-1], strict=True):
        pulls.insert(0, deltas[0] @ w.t())
        deltas.insert(0, saved.f.first(pulls[0], z, a))
    nothing = g.new_empty(0)
    gx = deltas[0] @ weights[0].t() if need[0] else nothing
    gw = [a.t() @ delta if need[1] else nothing for a, delta in zip([x, *saved.a], deltas, strict=True)]
    return [gx, *gw], deltas, pulls


class _PerceptronGradient(Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        *weights, saved, need = rest
        grads, ctx.deltas, ctx.pulls = _backward(g, x, weights, saved, need)
        ctx.deltas = ctx.deltas[:-1]  # the last is g
        ctx.save_for_backward(g, x, *weights)
        ctx.f, ctx.z, ctx.a, ctx.need = saved.f, saved.z, saved.a, need
        ctx.set_materialize_grads(False)
        return tuple(grads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor | None, *c: Tensor | None) -> tuple[Tensor | None, ...]:
        g, x, *weights = ctx.saved_tensors
        need_g, need_x, *need_w = wanted(ctx, 2 + len(weights))
        v = v if ctx.need[0] else None
        c = c if ctx.need[1] else [None] * len(weights)
        dot_z, dot_a = _tangents(ctx, v, c, x, weights)
        deltas, a = [*ctx.deltas, g], [x, *ctx.a]
        dw: list[Tensor | None] = [None] * len(weights)
        epsilon = None
        for i in range(len(weights) - 1, -1, -1):
            if any(need_w):
                dw[i] = _sum(_product(dot_a[i], deltas[i], left=True), _product(a[i], epsilon, left=True))
            q = _sum(_product(epsilon, weights[i]), _product(deltas[i], c[i])) if i or need_x else None
            if i:
                epsilon = None if q is None else ctx.f.first(q, ctx.z[i - 1], a[i])
                if dot_z[i - 1] is not None:
                    epsilon = _sum(ctx.f.second(ctx.pulls[i - 1] * dot_z[i - 1], ctx.z[i - 1], a[i]), epsilon)
        return dot_z[-1] if need_g else None, q, *dw, None, None


def _tangents(ctx: Any, v: Tensor | None, c: Sequence[Tensor | None], x: Tensor, weights: Sequence[Tensor]) -> tuple[list, list]:
    """ż_1 … ż_n and ȧ_0 … ȧ_{n−1}; None is zero."""
    dot_z: list[Tensor | None] = []
    dot_a, a = [v], [x, *ctx.a]
    for i, w in enumerate(weights):
        along_w = None if c[i] is None else a[i] @ c[i]
        dot_z.append(_sum(None if dot_a[i] is None else dot_a[i] @ w, along_w))
        if i + 1 < len(weights):
            dot_a.append(None if dot_z[i] is None else ctx.f.first(dot_z[i], ctx.z[i], a[i + 1]))
    return dot_z, dot_a


def _product(x: Tensor | None, y: Tensor | None, left: bool = False) -> Tensor | None:
    """xᵀ y (left) or x yᵀ; None is zero."""
    if x is None or y is None:
        return None
    return x.t() @ y if left else x @ y.t()


def _sum(x: Tensor | None, y: Tensor | None) -> Tensor | None:
    if x is None or y is None:
        return y if x is None else x
    return x.add_(y)
