"""Perceptrons on scalars, with the normalisations of the original programs."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from equipot.conventions import SECOND_MOMENT

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
    "abs": torch.abs,
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "mish": torch.nn.functional.mish,
    "identity": lambda x: x,
}


class Perceptron(nn.Module):
    """x ← act(x W_i · s_i) · c for hidden layers, x W_i · s_i at last.

    normalisation "e3nn": s = 1/√fan-in, c the second-moment factor of the activation; "he": s_0 = 1/√fan-in, later √(2/fan-in), c = 1;
    "plain": s = c = 1 with bias, orthogonal start. Input (..., sizes[0]), output (..., sizes[-1]).
    """

    def __init__(self, sizes: tuple[int, ...], activation: str, normalisation: str):
        super().__init__()
        self.act = ACTIVATIONS[activation]
        self.gain = SECOND_MOMENT[activation] if normalisation == "e3nn" else 1.0
        dtype = torch.get_default_dtype()
        pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
        self.scales = [_scale(normalisation, i, fan_in) for i, (fan_in, _) in enumerate(pairs)]
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(a, b, dtype=dtype)) for a, b in pairs])
        self.biases = nn.ParameterList()
        if normalisation == "plain":
            for weight in self.weights:
                nn.init.orthogonal_(weight)
            self.biases.extend(nn.Parameter(torch.zeros(b, dtype=dtype)) for _, b in pairs)

    def forward(self, x: Tensor) -> Tensor:
        last = len(self.weights) - 1
        for i, (weight, scale) in enumerate(zip(self.weights, self.scales, strict=True)):
            # the activation's factor of the layer before rides on the small matrix instead of the large activations
            factor = scale * (self.gain if i else 1.0)
            x = x @ (weight * factor if factor != 1.0 else weight)
            if len(self.biases):
                x = x + self.biases[i]
            if i < last:
                x = self.act(x)
        return x


def _scale(normalisation: str, index: int, fan_in: int) -> float:
    if normalisation == "plain":
        return 1.0
    return math.sqrt((2.0 if normalisation == "he" and index else 1.0) / fan_in)
