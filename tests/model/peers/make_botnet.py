"""Writes the packaged bundles of BOTNet's interactions: `python make_botnet.py FOLDER` in an environment with e3nn 0.4.4.

The paper's program (gncs/botnet) cannot be installed as a package: its blocks are rebuilt here from their description, on e3nn's own modules, under
its names of modules and weights. The class names matter: they are what the importer reads.
"""

import sys
from pathlib import Path

import torch
from ase.neighborlist import neighbor_list
from e3nn import nn, o3
from peer_structures import crystals, molecules, write_bundle

PLAIN = {
    "num_bessel": 5,
    "num_polynomial_cutoff": 6,
    "r_max": 4.2,
    "avg_num_neighbors": 3.3,
    "interaction_first": None,
    "MLP_irreps": "4x0e",
}
CASES = {
    "botnet_gate_parities": (
        molecules(),
        {
            **{
                "model": "scale_shift_non_linear_single_readout",
                "interaction": "NequIPInteractionBlock",
                "gate": "none",
                "num_interactions": 4,
            },
            **{"hidden_irreps": "2x0o+3x0e+2x1o+3x1e+2x2o+2x2e", "max_ell": 2, "atomic_inter_scale": 1.4, "atomic_inter_shift": -0.2},
        },
    ),
    "botnet_tables": (
        crystals(),
        {
            **{
                "model": "body_ordered_non_linear",
                "interaction": "ResidualElementDependentInteractionBlock",
                "num_interactions": 2,
                "gate": "abs",
            },
            **{"interaction_first": "ElementDependentInteractionBlock", "hidden_irreps": "3x0e+3x1o+3x1e+3x2e", "max_ell": 3},
        },
    ),
    "botnet_mlp_of_elements": (
        molecules(),
        {
            **{"model": "body_ordered", "interaction": "NonlinearInteractionBlock", "num_interactions": 2, "gate": "silu"},
            **{"hidden_irreps": "3x0e+3x1o+3x2e", "max_ell": 2},
        },
    ),
    "botnet_agnostic": (
        molecules(),
        {
            **{
                "model": "body_ordered_non_linear",
                "interaction": "AgnosticResidualNonlinearInteractionBlock",
                "num_interactions": 3,
                "gate": "tanh",
            },
            **{"interaction_first": "AgnosticNonlinearInteractionBlock", "hidden_irreps": "3x0o+3x0e+3x1o+3x1e", "max_ell": 2},
        },
    ),
}
GATES = {"silu": torch.nn.functional.silu, "tanh": torch.tanh, "abs": torch.abs, "none": None}
WIDTHS = [7, 6]


def paths(inputs, harmonics, target):
    """Irreps and instructions of all 'uvu' paths into `target`: outputs sorted, instructions in the order they are found."""
    found = [
        (i, j, (mul, out)) for i, (mul, a) in enumerate(inputs) for j, (_, b) in enumerate(harmonics) for out in a * b if out in target
    ]
    irreps, order, _ = o3.Irreps([f[2] for f in found]).sort()
    return irreps, [(i, j, order[k], "uvu", True) for k, (i, j, _) in enumerate(found)]


class LinearNodeEmbeddingBlock(torch.nn.Module):
    def __init__(self, irreps_in, irreps_out):
        super().__init__()
        self.linear = o3.Linear(irreps_in, irreps_out)

    def forward(self, x):
        return self.linear(x)


class LinearReadoutBlock(LinearNodeEmbeddingBlock):
    pass


class NonLinearReadoutBlock(torch.nn.Module):
    def __init__(self, irreps_in, hidden, gate):
        super().__init__()
        self.linear_1 = o3.Linear(irreps_in, hidden)
        self.non_linearity = nn.Activation(hidden, [gate])
        self.linear_2 = o3.Linear(hidden, o3.Irreps("0e"))

    def forward(self, x):
        return self.linear_2(self.non_linearity(self.linear_1(x)))


class ScaleShiftBlock(torch.nn.Module):
    pass


class TensorProductWeightsBlock(torch.nn.Module):
    def __init__(self, n_elements, n_basis, n_weights):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.randn(n_elements, n_basis, n_weights))

    def forward(self, senders, basis):
        return torch.einsum("be,ba,aek->bk", basis, senders, self.weights)

    def __repr__(self):
        return "TensorProductWeightsBlock()"


class MLP(torch.nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(n_in, n_in), torch.nn.Linear(n_in, n_out)])

    def forward(self, senders, basis):
        return self.layers[1](torch.relu(self.layers[0](torch.cat([senders, basis], dim=1))))

    def __repr__(self):
        return "MLP(act=ReLU())"


class Radial(nn.FullyConnectedNet):
    def forward(self, senders, basis):
        return super().forward(basis)


class Interaction(torch.nn.Module):
    """up → product of h_j and Y with radial weights → sum → linear / N → selector, or + residual → gate."""

    linear_up_wanted, radial, skip, gated = True, "agnostic", "selector", False

    def __init__(self, elements, inputs, harmonics, n_basis, target, n_neighbours):
        super().__init__()
        self.n_neighbours = n_neighbours
        if self.linear_up_wanted:
            self.linear_up = o3.Linear(inputs, inputs)
        mid, instructions = paths(inputs, harmonics, target)
        self.conv_tp = o3.TensorProduct(inputs, harmonics, mid, instructions=instructions, shared_weights=False, internal_weights=False)
        n_elements, n_weights = elements.num_irreps, self.conv_tp.weight_numel
        self.conv_tp_weights = {
            "agnostic": lambda: Radial([n_basis, *WIDTHS, n_weights], torch.nn.functional.silu),
            "table": lambda: TensorProductWeightsBlock(n_elements, n_basis, n_weights),
            "mlp": lambda: MLP(n_elements + n_basis, n_weights),
        }[self.radial]()
        mid = mid.simplify()
        kept = o3.Irreps([(mul, ir) for mul, ir in target if ir in mid])
        self.irreps_out = before = o3.Irreps([(target.count(ir), ir) for _, ir in mid])
        if self.gated:
            self.equivariant_nonlin = gate_of(kept)
            before, self.irreps_out = self.equivariant_nonlin.irreps_in.simplify(), self.equivariant_nonlin.irreps_out.simplify()
        self.linear = o3.Linear(mid, before)
        self.skip_tp = o3.FullyConnectedTensorProduct(before if self.skip == "selector" else inputs, elements, before)

    def forward(self, one_hot, h, harmonics, basis, sender, receiver):
        residual = None if self.skip == "selector" else self.skip_tp(h, one_hot)
        h = self.linear_up(h) if self.linear_up_wanted else h
        edges = self.conv_tp(h[sender], harmonics, self.conv_tp_weights(one_hot[sender], basis))
        message = self.linear(torch.zeros(len(h), edges.shape[1]).index_add(0, receiver, edges)) / self.n_neighbours
        message = self.skip_tp(message, one_hot) if residual is None else message + residual
        return self.equivariant_nonlin(message) if self.gated else message


def gate_of(irreps):
    """Scalars through SiLU or tanh by parity, everything else times a SiLU of a scalar of its own."""
    scalars = o3.Irreps([(mul, ir) for mul, ir in irreps if ir.l == 0])
    gated = o3.Irreps([(mul, ir) for mul, ir in irreps if ir.l > 0])
    acts = [torch.nn.functional.silu if ir.p == 1 else torch.tanh for _, ir in scalars]
    return nn.Gate(scalars, acts, o3.Irreps([(mul, "0e") for mul, _ in gated]), [torch.nn.functional.silu] * len(gated), gated)


def interaction(name: str) -> type:
    """The class of that name."""
    traits = {
        "AgnosticNonlinearInteractionBlock": {},
        "AgnosticResidualNonlinearInteractionBlock": {"skip": "residual"},
        "NequIPInteractionBlock": {"skip": "residual", "gated": True},
        "ElementDependentInteractionBlock": {"radial": "table"},
        "ResidualElementDependentInteractionBlock": {"radial": "table", "skip": "residual"},
        "NonlinearInteractionBlock": {"radial": "mlp", "linear_up_wanted": False},
    }
    return type(name, (Interaction,), traits[name])


class Model(torch.nn.Module):
    def __init__(self, settings, n_elements):
        super().__init__()
        self.settings = settings
        single, nonlinear = "single" in settings["model"], "non_linear" in settings["model"]
        hidden, elements = o3.Irreps(settings["hidden_irreps"]), o3.Irreps([(n_elements, (0, 1))])
        features = o3.Irreps([(hidden.count(o3.Irrep(0, 1)), (0, 1))])
        harmonics = o3.Irreps.spherical_harmonics(settings["max_ell"])
        self.node_embedding = LinearNodeEmbeddingBlock(elements, features)
        self.spherical_harmonics = o3.SphericalHarmonics(harmonics, normalize=True, normalization="component")
        self.interactions, self.readouts = torch.nn.ModuleList(), torch.nn.ModuleList()
        n_layers = settings["num_interactions"]
        for i in range(n_layers):
            kind = settings["interaction_first"] if i == 0 and settings["interaction_first"] else settings["interaction"]
            arguments = (elements, features, harmonics, settings["num_bessel"], hidden, settings["avg_num_neighbors"])
            self.interactions.append(interaction(kind)(*arguments))
            features, last = self.interactions[-1].irreps_out, i == n_layers - 1
            if last and nonlinear:
                self.readouts.append(NonLinearReadoutBlock(features, o3.Irreps(settings["MLP_irreps"]), GATES[settings["gate"]]))
            elif last or not single:
                self.readouts.append(LinearReadoutBlock(features, o3.Irreps("0e")))
        if "scale_shift" in settings["model"]:
            self.scale_shift = ScaleShiftBlock()

    def forward(self, one_hot, vectors, sender, receiver, energies):
        s, r = self.settings, vectors.norm(dim=1, keepdim=True)
        x, p = r / s["r_max"], float(s["num_polynomial_cutoff"])
        envelope = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
        roots = torch.arange(1.0, s["num_bessel"] + 1) * torch.pi / s["r_max"]
        basis = (2 / s["r_max"]) ** 0.5 * torch.sin(roots * r) / r * envelope * (x < 1)
        harmonics, h = self.spherical_harmonics(vectors), self.node_embedding(one_hot)
        outputs = []
        for block in self.interactions:
            h = block(one_hot, h, harmonics, basis, sender, receiver)
            outputs.append(h)
        inputs = outputs[-len(self.readouts) :]
        site = sum(readout(x) for readout, x in zip(self.readouts, inputs)).squeeze(1)  # noqa: B905
        if "atomic_inter_scale" in s:
            site = s["atomic_inter_scale"] * site + s["atomic_inter_shift"]
        return (one_hot @ energies + site).sum()


def main(folder: Path) -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    for name, (structures, options) in CASES.items():
        torch.manual_seed(4)
        settings = {**PLAIN, **options}
        numbers = sorted({int(z) for atoms in structures for z in atoms.numbers})
        energies = [-1.0 - 0.7 * i for i in range(len(numbers))]
        model = Model(settings, len(numbers))
        with torch.no_grad():
            for block in model.interactions:
                block.linear.weight.mul_(4.0)
        results = [(atoms, evaluate(model, atoms, numbers, energies)) for atoms in structures]
        meta = {
            **{"package": "gncs/botnet rebuilt", "edge_vector": "r_receiver - r_sender", "modules": repr(model)},
            **{
                "atomic_numbers": numbers,
                "atomic_energies": energies,
                "n_parameters": sum(p.numel() for p in model.parameters()),
                **settings,
            },
        }
        weights = {key: p.detach().numpy() for key, p in model.named_parameters() if p.numel()}
        write_bundle(str(folder / f"{name}.npz"), meta, weights, {}, results)


def evaluate(model: Model, atoms, numbers: list[int], energies: list[float]) -> dict:
    """Energy, forces and the number of edges; vectors from the neighbour to the centre, as that program has them."""
    centres, neighbours, shifts = (torch.tensor(a) for a in neighbor_list("ijS", atoms, model.settings["r_max"]))
    positions = torch.tensor(atoms.positions, requires_grad=True)
    vectors = positions[centres] - positions[neighbours] - shifts.double() @ torch.tensor(atoms.cell.array)
    one_hot = (torch.tensor(atoms.numbers)[:, None] == torch.tensor(numbers)).double()
    energy = model(one_hot, vectors, neighbours, centres, torch.tensor(energies))
    (gradient,) = torch.autograd.grad(energy, positions)
    return {"energy": energy.detach().reshape(1).numpy(), "forces": -gradient.numpy(), "n_edges": torch.tensor(len(centres)).numpy()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
