"""SOAP and the matrices it works on."""

from dataclasses import replace

import pytest
import torch

from equipot.model import Potential
from equipot.presets import PRESETS
from equipot.train.config import TrainConfig
from equipot.train.matrices import Matrices, weight_matrices
from equipot.train.optimizers import make_optimizer
from equipot.train.soap import Soap


def by_hand(weight, gradients, bases, rate, beta=0.95, every=10):
    """One matrix, step by step; the first bases are given, since eigenvectors have free signs and a null space free axes."""
    p, q = bases
    m = v = torch.zeros_like(weight)
    left, right = 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        left, right = beta * left + (1 - beta) * g @ g.T, beta * right + (1 - beta) * g.T @ g
        m = beta * m + (1 - beta) * g
        v = beta * v + (1 - beta) * (p.T @ g @ q) ** 2
        hat = 1 - beta**t
        weight = weight - rate * p @ ((p.T @ m @ q / hat) / ((v / hat).sqrt() + 1e-10)) @ q.T
        if t % every == 0:
            p, q = torch.linalg.qr(left @ p)[0], torch.linalg.qr(right @ q)[0]
    return weight


@pytest.mark.parametrize("shape", [(4, 4), (3, 5)])
def test_it_follows_its_equations(shape):
    torch.manual_seed(0)
    rows, columns = shape
    flat = torch.nn.Parameter(torch.randn(2, 3 + rows * columns, dtype=torch.float64))  # two rows; three numbers of something else before
    start = flat.detach().clone()
    blocks = [Matrices(flat, 3, rows, columns), Matrices(flat, 0, 1, 3)]
    gradients = [torch.randn_like(flat) for _ in range(25)]
    optimizer = Soap([flat], blocks, lr=0.01)
    for i, gradient in enumerate(gradients):
        flat.grad = gradient.clone()
        optimizer.step()
        if i == 0:
            first = {side: optimizer.memory[f"{rows}x{columns}"][f"{side} basis"].clone() for side in ("left", "right")}
    for row in range(2):
        mine = [g[row, 3:].view(shape) for g in gradients]
        outer = first["left"][row].T @ mine[0] @ mine[0].T @ first["left"][row]
        assert torch.allclose(outer, torch.diag(outer.diagonal()), atol=1e-9)
        expected = by_hand(start[row, 3:].view(shape), mine, (first["left"][row], first["right"][row]), 0.01)
        assert torch.allclose(flat[row, 3:].view(shape), expected, atol=1e-9)
        assert not torch.allclose(flat[row, 3:].view(shape), start[row, 3:].view(shape), atol=1e-2)


@pytest.mark.parametrize("every", [10, 1000000])
def test_the_turned_axes_help_where_the_curvature_is_turned(every):
    """‖A (W − T) B‖² with turned A and B, and noise: the bases must be renewed for it to be better than Adam by far."""
    torch.manual_seed(1)
    basis = [torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))[0] for _ in range(2)]
    a, b = (q @ torch.diag(torch.logspace(0, -1, 12, dtype=torch.float64)) @ q.T for q in basis)
    target = torch.randn(12, 12, dtype=torch.float64)

    def error_after(make_one):
        torch.manual_seed(5)
        weight = torch.nn.Parameter(torch.zeros(12, 12, dtype=torch.float64))
        optimizer = make_one(weight)
        for i in range(400):
            optimizer.param_groups[0]["lr"] = 0.02 * (1 - i / 400)
            optimizer.zero_grad()
            (a @ (weight - target) @ b).square().sum().backward()
            weight.grad += 0.3 * a @ torch.randn_like(weight) @ b
            optimizer.step()
        return float((a @ (weight.detach() - target) @ b).square().sum())

    soap = error_after(lambda w: Soap([w], [Matrices(w, None, 12, 12)], lr=0.02, every=every))
    adam = error_after(lambda w: torch.optim.Adam([w], lr=0.02))
    assert (soap < 0.5 * adam) == (every == 10)


def test_a_state_restored_goes_on_as_if_nothing_had_been():
    torch.manual_seed(2)
    gradients = [(torch.randn(6, 4), torch.randn(3)) for _ in range(30)]

    def run(stop):
        torch.manual_seed(3)
        params = [torch.nn.Parameter(torch.randn(6, 4)), torch.nn.Parameter(torch.randn(3))]
        optimizer = Soap(params, [Matrices(params[0], None, 6, 4)], lr=0.01)
        for i, pair in enumerate(gradients):
            if i == stop:
                kept, values = optimizer.state_dict(), [p.detach().clone() for p in params]
                params = [torch.nn.Parameter(value) for value in values]
                optimizer = Soap(params, [Matrices(params[0], None, 6, 4)], lr=1.0)
                optimizer.load_state_dict(kept)
            for p, g in zip(params, pair, strict=True):
                p.grad = g.clone()
            optimizer.step()
        return params

    assert all(torch.equal(a, b) for a, b in zip(run(17), run(-1), strict=True))


@pytest.mark.parametrize("preset", ["botnet", "nequip", "mace"])
def test_every_number_of_a_model_is_in_one_matrix_at_most(preset):
    spec = PRESETS[preset]()
    layers = tuple(replace(layer, normaliser=replace(layer.normaliser, value=4.0)) for layer in spec.layers)
    model = Potential(replace(spec, elements=(1, 8), layers=layers, energy=replace(spec.energy, e0=(0.0, 0.0), scale=1.0)))
    seen = {id(p): torch.zeros_like(p) for p in model.parameters()}
    for m in weight_matrices(model):
        ones = Matrices(seen[id(m.parameter)], m.start, m.rows, m.columns)
        ones.add_(torch.ones_like(ones.of(seen[id(m.parameter)])))
    for p in model.parameters():
        assert (seen[id(p)] == (1.0 if p.ndim >= 2 or id(p) in {id(m.parameter) for m in weight_matrices(model)} else 0.0)).all()
    assert sum(int(x.sum()) for x in seen.values()) > 0.9 * sum(p.numel() for p in model.parameters())


def test_it_is_the_default():
    weight = torch.nn.Parameter(torch.ones(3, 3))
    assert isinstance(make_optimizer([weight], TrainConfig(), [Matrices(weight, None, 3, 3)]), Soap)


def test_numbers_on_the_device_give_the_same_update():
    """As a captured update has them: the rate and the corrections in tensors, the bases renewed in place."""
    torch.manual_seed(0)
    pairs = []
    for _ in range(2):
        torch.manual_seed(1)
        weights = [torch.nn.Parameter(torch.randn(s, dtype=torch.float64)) for s in [(6, 4), (5,)]]
        pairs.append((weights, Soap(weights, [Matrices(weights[0], None, 6, 4)], lr=0.03, weight_decay=0.1)))
    (ours, captured), (theirs, plain) = pairs
    for step in range(25):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = b.grad = torch.randn_like(a)
        plain.step()
        captured.n += 1
        captured.update(torch.tensor(0.03, dtype=torch.float64), torch.tensor(captured.corrections(), dtype=torch.float64).unbind())
        if step == 0:
            addresses = [t.data_ptr() for t in captured.memory["6x4"].values()]
        if captured.is_due:
            captured.renew(in_place=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert addresses == [t.data_ptr() for t in captured.memory["6x4"].values()]
