"""Defects, each put into the code in one place, and the tests that must fail for it.

A killer is a check of `contract_checks` at a point of `contract_models`, an oracle of `oracle_checks`, or the packaged result of an original program.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import NamedTuple

import contract_checks as checks
import oracle_checks as oracles
import torch
from contract_models import POINTS, potential_of
from pytest import MonkeyPatch

from equipot import conventions
from equipot.data.neighbours import neighbour_graph
from equipot.math import coupling
from equipot.model import Potential, build, derivatives, potential
from equipot.model.importers import import_bundle, read_bundle
from equipot.model.importers.verify import TOLERANCES, deviations
from equipot.nn import gate, linear, perceptron, product, radial, slots, zbl
from equipot.ops import geometry, reference

BUNDLES = Path(__file__).parents[1] / "model" / "bundles"


class Killer(NamedTuple):
    """A named test; `run` raises AssertionError where it fails."""

    name: str
    run: Callable[[], None]


def contract(check: Callable[[Potential], None], point: str) -> Killer:
    """A contract at a point of the design space."""
    return Killer(f"{check.__name__}[{point}]", lambda: check(potential_of(POINTS[point], backend="reference")))


def golden(name: str) -> Killer:
    """The original program's results."""

    def run() -> None:
        bundle = read_bundle(BUNDLES / f"{name}.npz")
        for found in deviations(import_bundle(bundle, backend="reference")[0], bundle.frames, neighbour_graph):
            for what, tolerance in TOLERANCES.items():
                value = getattr(found, what)
                assert value is None or value <= tolerance, f"{what} differs by {value:.1e}"

    return Killer(f"golden {name}", run)


def oracle(check: Callable[[], None]) -> Killer:
    """A module against e3nn."""
    return Killer(check.__name__, check)


class Mutation(NamedTuple):
    """`apply` puts the defect in; all of `killers` must then fail."""

    name: str
    apply: Callable[[MonkeyPatch], None]
    killers: tuple[Killer, ...]


def change(target: object, attribute: str, make: Callable) -> Callable[[MonkeyPatch], None]:
    """Replace a function by what `make` makes of it."""

    def apply(patch: MonkeyPatch) -> None:
        original = getattr(target, attribute)
        patch.setattr(target, attribute, wraps(original)(make(original)) if callable(original) else make(original))

    return apply


def of_result(f: Callable) -> Callable[[Callable], Callable]:
    """A mutant that applies f to the result."""
    return lambda original: lambda *args, **kwargs: f(original(*args, **kwargs))


def on_prediction(**fields: Callable) -> Callable[[Callable], Callable]:
    """A mutant of `predict` whose result has fields changed: each function sees the prediction and the graph."""

    def make(original):
        def predict(model, graph, *args, **kwargs):
            found = original(model, graph, *args, **kwargs)
            return found._replace(**{name: f(found, graph) for name, f in fields.items() if getattr(found, name) is not None})

        return predict

    return make


# ---- mutants that need more than a line ----


def no_unnatural_parity(original):
    def message(h_e, y, w, path):
        return original(h_e, y, w, path) * (path.p3 == (-1) ** path.l3)

    return message


def flipped(triple, everywhere: bool):
    """The sign of one coupling, or of one entry of it."""

    def make(original):
        def coefficients(l1, l2, l3, *args):
            c = original(l1, l2, l3, *args)
            if (l1, l2, l3) != triple:
                return c
            return -c if everywhere else c.index_fill(0, torch.tensor([0]), 0.0) - c * (torch.arange(len(c)) == 0)[:, None]

        return coefficients

    return make


def with_edges(f):
    """A mutant of `edge_convolution`'s helpers that sees changed edges."""
    return lambda original: lambda self, x, species, edges, *rest: original(self, x, species, f(edges), *rest)


def gathers_from_the_receiver(original):
    def layer(self, h, harmonics, basis, species, attributes, edges):
        return original(self, h, harmonics, basis, species, attributes, edges._replace(sender=edges.receiver))

    return layer


def table_of_the_receiver(original):
    return lambda self, basis, species, edges: original(self, basis, species, edges._replace(sender=edges.receiver, receiver=edges.sender))


def all_of_one_kind(original):
    """N where √N belongs and the reverse."""
    other = {"mean": "sqrt", "sqrt": "mean"}
    return lambda spec, normaliser: original(spec, replace(normaliser, kind=other.get(normaliser.kind, normaliser.kind)))


def first_cell(graph):
    return graph._replace(cell=graph.cell[:1].expand_as(graph.cell))


def no_third_order(original):
    """The highest order of a product left out."""
    return lambda a, w, term: original(a, w, term) * (term.monomials.shape[1] < 3)


def shift_is_scaled(original):
    def forward(self, graph, vectors):
        sites = original(self, graph, vectors)
        shift = self.shift[graph.species]
        return sites._replace(total=sites.total - shift + self.scale[graph.species] * shift)

    return forward


def e0_is_scaled(original):
    def forward(self, graph, vectors):
        sites = original(self, graph, vectors)
        return sites._replace(total=sites.total + (self.scale[graph.species] - 1.0) * self.e0[graph.species])

    return forward


def sets_after_init(**attributes):
    def make(original):
        def init(self, *args, **kwargs):
            original(self, *args, **kwargs)
            for name, value in attributes.items():
                setattr(self, name, value)

        return init

    return make


def transposed_cells(original):
    return lambda graph: original(graph._replace(cell=graph.cell.transpose(1, 2)))


def receivers_only(found, graph):
    """Forces from one end of every edge."""
    return reference.segment_sum(found.forces[graph.receiver] * 0, graph.receiver, graph.n_atoms) + 0.5 * found.forces


COUPLINGS = ("nequip both parities",)
MUTATIONS = (
    # symmetry
    Mutation(
        "messages of unnatural parity dropped",
        change(reference, "_path_message", no_unnatural_parity),
        (golden("botnet_gate_parities"), contract(checks.hidden_features, "nequip both parities")),
    ),
    Mutation(
        "an odd-sum coupling has the other sign",
        change(reference, "_coefficients", flipped((1, 1, 1), True)),
        (golden("botnet_gate_parities"), golden("nequip_odd_gates")),
    ),
    Mutation(
        "one entry of a coupling has the other sign",
        change(reference, "_coefficients", flipped((1, 2, 1), False)),
        (contract(checks.rotation, "nequip"), contract(checks.hidden_features, "botnet"), golden("nequip_parity_zbl")),
    ),
    Mutation(
        "Clebsch-Gordan coefficients of e3nn 0.4.4",
        change(oracles, "clebsch_gordan", lambda f: lambda a, b, c: f(a, b, c) * (-1 if tuple(sorted((a, b, c))) in coupling.E3NN_044_FLIPPED else 1)),
        (oracle(oracles.couplings_are_e3nns),),
    ),
    Mutation(
        "harmonics without the component normalisation",
        change(geometry, "spherical_harmonics", of_result(lambda y: y / torch.cat([torch.full((2 * i + 1,), (2.0 * i + 1) ** 0.5) for i in range(int(y.shape[1] ** 0.5))]).to(y))),
        (golden("nequip_parity_zbl"), golden("botnet_agnostic")),
    ),
    Mutation(
        "two components of l = 1 swapped in the harmonics",
        change(geometry, "spherical_harmonics", of_result(lambda y: torch.cat([y[:, :1], y[:, [2, 1, 3]], y[:, 4:]], dim=1))),
        (contract(checks.rotation, "nequip"), contract(checks.hidden_features, "botnet")),
    ),
    Mutation(
        "SiLU for odd scalars in the gate",
        lambda patch: patch.setattr(torch, "tanh", torch.nn.functional.silu),
        (oracle(oracles.gate_is_equivariant), oracle(oracles.gate_is_e3nn)),
    ),
    Mutation(
        "gates without their second moment",
        lambda patch: patch.setattr(gate, "SECOND_MOMENT", dict.fromkeys(conventions.SECOND_MOMENT, 1.0)),
        (golden("nequip_parity_zbl"), oracle(oracles.gate_is_e3nn)),
    ),
    # the graph
    Mutation("sender and receiver swapped in the edge vector", change(derivatives, "edge_vectors", of_result(torch.neg)), ()),
    Mutation(
        "features gathered from the receiver",
        change(build.Layer, "forward", gathers_from_the_receiver),
        (golden("nequip_parity_zbl"), golden("botnet_agnostic")),
    ),
    Mutation("radial table of the receiver's element", change(radial.TableWeights, "forward", table_of_the_receiver), (golden("botnet_tables"),)),
    Mutation(
        "cell transposed",
        change(derivatives, "edge_vectors", transposed_cells),
        (contract(checks.wrapping, "nequip"), contract(checks.rotation, "botnet"), contract(checks.supercell, "botnet"), golden("nequip_parity_zbl")),
    ),
    Mutation(
        "shifts of periodic images forgotten",
        change(derivatives, "edge_vectors", lambda f: lambda g: f(g._replace(shift=0 * g.shift))),
        (contract(checks.wrapping, "nequip"), contract(checks.supercell, "nequip")),
    ),
    Mutation(
        "every structure of a batch in the first one's cell",
        change(derivatives, "edge_vectors", lambda f: lambda g: f(first_cell(g))),
        (contract(checks.batch_is_single, "nequip"),),
    ),
    Mutation(
        "an atom's own images left out",
        change(checks, "graph_of", of_result(lambda g: without_own_images(g))),
        (contract(checks.supercell, "nequip"),),
    ),
    Mutation("cutoffs by pair taken as symmetric", change(Potential, "__init__", sets_after_init(_one_sided=False)), (golden("nequip_pair_cutoffs"),)),
    # normalisation
    Mutation("√N for N and N for √N", change(build, "_normalisers", all_of_one_kind), (golden("botnet_agnostic"), golden("nequip_parity_zbl"))),
    Mutation(
        "linear maps without fan-in",
        lambda patch: patch.setattr(linear, "linear_fan_in", lambda a, b: torch.ones(sum(o.mul * a.mul(o.l, o.p) for o in b), dtype=torch.float64)),
        (oracle(oracles.linear_is_e3nn), oracle(oracles.element_linear_is_e3nn)),
    ),
    Mutation(
        "element-dependent maps without the number of attributes in the fan-in",
        change(linear.ElementLinear, "forward", lambda f: lambda self, *args: f(self, *args) * self.weight.shape[0] ** 0.5),
        (oracle(oracles.element_linear_is_e3nn), golden("botnet_agnostic")),
    ),
    Mutation("embedding without fan-in", change(oracles, "embedding_table", of_result(lambda r: (r[0], 1.0))), (oracle(oracles.embedding_is_e3nn),)),
    Mutation(
        "perceptrons without second moments",
        lambda patch: patch.setattr(perceptron, "SECOND_MOMENT", dict.fromkeys(conventions.SECOND_MOMENT, 1.0)),
        (oracle(oracles.perceptron_is_e3nn),),
    ),
    Mutation(
        "nequip's perceptron without √2",
        change(perceptron, "_scale", lambda f: lambda kind, i, n: f("e3nn", i, n)),
        (oracle(oracles.perceptron_is_nequips),),
    ),
    Mutation(
        "neighbours by the receiver's element instead of the sender's",
        change(slots.DivideBy, "forward", lambda f: lambda self, x, species, *rest: f(self, x, species.flip(0), *rest)),
        (golden("nequip_parity_zbl"),),
    ),
    Mutation(
        "learned density without its 1",
        change(slots.DivideByDensity, "forward", lambda f: lambda self, x, *rest: x / (x / f(self, x, *rest) - 1.0).clamp(min=1e-3)),
        (golden("mace_density_parities"),),
    ),
    # slots
    Mutation(
        "residual dropped",
        lambda patch: patch.setattr(slots.ElementResidual, "forward", lambda self, message, *rest: message),
        (golden("botnet_agnostic"), golden("nequip_parity_zbl"), golden("mace_products_zbl_agnesi")),
    ),
    Mutation(
        "selector dropped", lambda patch: patch.setattr(slots.Selector, "forward", lambda self, message, *rest: message), (golden("botnet_agnostic"),)
    ),
    Mutation("products without their highest order", change(reference, "_product_term", no_third_order), (golden("mace_products_zbl_agnesi"),)),
    Mutation(
        "product weights of the first element for all",
        change(product.SymmetricProduct, "forward", lambda f: lambda self, x, species, attributes: f(self, x, 0 * species, attributes)),
        (golden("mace_products_zbl_agnesi"),),
    ),
    # radial functions
    Mutation(
        "envelope left out",
        lambda patch: patch.setattr(geometry, "polynomial_envelope", lambda r, cutoff, p: (r < cutoff).to(r.dtype)),
        (contract(checks.cutoff_smoothness, "gaussians"), contract(checks.cutoff_smoothness, "nequip"), golden("botnet_agnostic")),
    ),
    Mutation(
        "envelope of another exponent",
        change(geometry, "polynomial_envelope", lambda f: lambda r, cutoff, p: f(r, cutoff, p + 1)),
        (golden("botnet_agnostic"), golden("nequip_parity_zbl")),
    ),
    Mutation(
        "Bessel prefactors exchanged",
        change(radial.RadialBasis, "__init__", lambda f: lambda self, kind, n, cutoff, prefactor, *rest, **more: f(self, kind, n, cutoff, {"sqrt": "linear", "linear": "sqrt"}[prefactor], *rest, **more)),
        (golden("botnet_agnostic"), golden("nequip_parity_zbl")),
    ),
    Mutation(
        "Agnesi transform left out",
        lambda patch: patch.setattr(geometry, "agnesi_transform", lambda r, r0: r),
        (golden("mace_products_zbl_agnesi"),),
    ),
    # energy
    Mutation(
        "ZBL not scaled",
        change(zbl.ZBL, "__init__", sets_after_init(scaled=False)),
        (golden("mace_products_zbl_agnesi"),),
    ),
    Mutation("ZBL scaled", change(zbl.ZBL, "__init__", sets_after_init(scaled=True)), (golden("nequip_parity_zbl"),)),
    Mutation(
        "ZBL counted once per direction", change(zbl.ZBL, "forward", of_result(lambda e: 2 * e)), (golden("nequip_parity_zbl"), golden("mace_products_zbl_agnesi"))
    ),
    Mutation("E0 scaled", change(Potential, "forward", e0_is_scaled), (contract(checks.isolated_atom, "nequip"),)),
    Mutation("shift scaled", change(Potential, "forward", shift_is_scaled), (golden("botnet_gate_parities"), golden("mace_products_zbl_agnesi"))),
    Mutation(
        "a bare atom's own energy left in", change(Potential, "__init__", sets_after_init(_subtract_bare=False)), (contract(checks.isolated_atom, "nequip_linear"),)
    ),
    Mutation(
        "energies in float32",
        change(Potential, "forward", of_result(lambda sites: sites._replace(total=sites.total.float().double()))),
        (contract(checks.single_precision, "nequip"), golden("botnet_agnostic")),
    ),
    # derivatives
    Mutation(
        "forces of the wrong sign",
        change(checks, "predict", on_prediction(forces=lambda p, g: -p.forces)),
        (contract(checks.finite_difference_forces, "nequip"),),
    ),
    Mutation(
        "half of the forces",
        change(checks, "predict", on_prediction(forces=lambda p, g: 0.5 * p.forces)),
        (contract(checks.finite_difference_forces, "nequip"),),
    ),
    Mutation(
        "stress not divided by the volume",
        change(derivatives, "require_volume", of_result(torch.ones_like)),
        (contract(checks.finite_difference_stress, "nequip"), golden("nequip_parity_zbl")),
    ),
    Mutation(
        "virial in place of the stress",
        change(checks, "predict", on_prediction(stress=lambda p, g: -p.stress)),
        (contract(checks.finite_difference_stress, "nequip"),),
    ),
)
