"""The mutation table: defects, each put into the code in one place, and the tests that must fail for it.

A killer is a check of `contract_checks` at a point of `contract_models`, an oracle of `oracle_checks`, or the packaged results of an original program.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import contract_checks as checks
import mutants
import oracle_checks as oracles
import torch
from contract_models import POINTS, potential_of
from pytest import MonkeyPatch

from equipot.conventions import SECOND_MOMENT
from equipot.data.neighbours import neighbour_graph
from equipot.math import coupling
from equipot.model import Potential, build, derivatives, file, potential
from equipot.model.importers import import_bundle, read_bundle
from equipot.model.importers.verify import TOLERANCES, deviations
from equipot.nn import coupled, gate, layer, linear, perceptron, product, radial, readout, slots, zbl
from equipot.ops import geometry, reference

BUNDLES = Path(__file__).parents[1] / "model" / "bundles"
NO_MOMENTS = dict.fromkeys(SECOND_MOMENT, 1.0)


class Killer(NamedTuple):
    """A named test; `run` raises AssertionError where it fails."""

    name: str
    run: Callable[[], None]


class Mutation(NamedTuple):
    """What `put` puts in place of `name` in `where`; all of `killers` must then fail."""

    what: str
    where: Any
    name: str
    put: Any
    killers: tuple[Killer, ...]

    def apply(self, patch: MonkeyPatch) -> None:
        patch.setattr(self.where, self.name, self.put)


def contract(check: Callable[[Potential], None], point: str) -> Killer:
    """A contract at a point of the design space."""
    return Killer(f"{check.__name__}[{point}]", lambda: check(potential_of(POINTS[point], backend="reference")))


def oracle(check: Callable[[], None]) -> Killer:
    """A module against e3nn."""
    return Killer(check.__name__, check)


def golden(name: str) -> Killer:
    """The original program's results."""

    def run() -> None:
        bundle = read_bundle(BUNDLES / f"{name}.npz")
        for found in deviations(import_bundle(bundle, backend="reference")[0], bundle.frames, neighbour_graph):
            for what, tolerance in TOLERANCES.items():
                value = getattr(found, what)
                assert value is None or value <= tolerance, f"{what} differs by {value:.1e}"

    return Killer(f"golden {name}", run)


BOTNET, GATED, TABLES = golden("botnet_agnostic"), golden("botnet_gate_parities"), golden("botnet_tables")
NEQUIP, ODD, PAIRS = golden("nequip_parity_zbl"), golden("nequip_odd_gates"), golden("nequip_pair_cutoffs")
MACE, DENSITY = golden("mace_products_zbl_agnesi"), golden("mace_density_parities")


def mutation(what: str, where: Any, name: str, make: Callable, *killers: Killer) -> Mutation:
    """A function replaced by what `make` makes of it."""
    return Mutation(what, where, name, make(getattr(where, name)), killers)


def replacement(what: str, where: Any, name: str, put: Any, *killers: Killer) -> Mutation:
    """A name replaced."""
    return Mutation(what, where, name, put, killers)


SYMMETRY = (
    mutation(
        *("messages of unnatural parity dropped", reference, "_path_message", mutants.no_unnatural_parity),
        *(GATED, contract(checks.hidden_features, "nequip both parities")),
    ),
    mutation("an odd-sum coupling of the other sign", reference, "_coefficients", mutants.flipped(1, 1, 1), GATED),
    mutation(
        *("one entry of a coupling of the other sign", reference, "_coefficients", mutants.flipped(1, 2, 1, entries=1)),
        *(contract(checks.rotation, "nequip"), contract(checks.hidden_features, "botnet"), NEQUIP),
    ),
    mutation(
        *("one entry of an odd-sum coupling of the other sign", reference, "_coefficients", mutants.flipped(1, 1, 1, entries=1)),
        *(contract(checks.hidden_features, "nequip both parities"), GATED),
    ),
    mutation(
        *("real basis without its phase", coupling, "real_from_complex", mutants.of_result(abs)),
        *(oracle(oracles.couplings_are_e3nns),),
    ),
    mutation("harmonics of unit norm", geometry, "spherical_harmonics", mutants.of_result(mutants.norm_normalised), NEQUIP, BOTNET),
    mutation(
        *("two components of a harmonic swapped", geometry, "spherical_harmonics", mutants.of_result(mutants.swapped_components)),
        *(contract(checks.rotation, "nequip"), contract(checks.hidden_features, "botnet")),
    ),
    mutation(
        *("1e and 1o exchanged", linear.IrrepsLinear, "forward", mutants.parities_swapped),
        *(contract(checks.reflection, "nequip_linear"), contract(checks.hidden_features, "nequip_linear")),
    ),
    replacement(
        *("SiLU for odd scalars in the gate", gate, "_ACTIVATION", {1: "silu", -1: "silu"}),
        *(oracle(oracles.gate_is_equivariant), oracle(oracles.gate_is_e3nn)),
    ),
)

GRAPH = (
    mutation(
        *("sender and receiver swapped in the edge vector", derivatives, "edge_vectors", mutants.of_result(torch.neg)),
        *(contract(checks.newton, "nequip"),),
    ),
    mutation("features gathered from the receiver", layer.Layer, "forward", mutants.gathers_from_the_receiver, NEQUIP, BOTNET),
    mutation("radial table of the receiver's element", radial.TableWeights, "forward", mutants.elements_of_the_receiver, TABLES),
    mutation(
        *("cell transposed", derivatives, "edge_vectors", mutants.of_graph(mutants.cells_transposed)),
        *(contract(checks.wrapping, "nequip"), contract(checks.rotation, "nequip"), contract(checks.supercell, "botnet"), NEQUIP),
    ),
    mutation(
        *("shifts of periodic images forgotten", derivatives, "edge_vectors", mutants.of_graph(mutants.no_shifts)),
        *(contract(checks.wrapping, "nequip"), contract(checks.supercell, "nequip"), NEQUIP),
    ),
    mutation(
        *("every structure of a batch in the first one's cell", derivatives, "edge_vectors", mutants.of_graph(mutants.first_cell)),
        *(contract(checks.batch_is_single, "nequip"),),
    ),
    mutation(
        *("an atom's own images left out", checks, "graph_of", mutants.of_result(mutants.no_own_images)),
        *(contract(checks.supercell, "nequip"),),
    ),
    mutation(
        *("an energy of the atom's number", Potential, "forward", mutants.added(lambda g: 1e-3 * torch.arange(g.n_atoms))),
        *(contract(checks.permutation, "nequip"), contract(checks.batch_is_single, "nequip")),
    ),
    mutation(
        *("an energy of the atom's place", Potential, "forward", mutants.added(lambda g: 1e-3 * g.positions[:, 0])),
        *(contract(checks.translation, "nequip"), contract(checks.finite_difference_forces, "nequip")),
    ),
    mutation(
        *("messages by the number of atoms", layer.Layer, "forward", mutants.by_number_of_atoms),
        *(contract(checks.size_extensivity, "nequip"), contract(checks.supercell, "nequip"), contract(checks.batch_is_single, "nequip")),
    ),
    mutation("cutoffs by pair taken as symmetric", Potential, "__init__", mutants.after_init(_one_sided=False), PAIRS),
)

NORMALISATION = (
    mutation("√N for N and N for √N", build, "_normalisers", mutants.roots_exchanged, BOTNET, NEQUIP),
    replacement(
        *("linear maps without fan-in", linear, "linear_fan_in", mutants.no_fan_in),
        *(oracle(oracles.linear_is_e3nn), oracle(oracles.element_linear_is_e3nn)),
    ),
    mutation(
        *("embedding without fan-in", potential, "embedding_table", mutants.of_result(lambda found: (found[0], 1.0))),
        *(oracle(oracles.embedding_is_e3nn),),
    ),
    replacement("perceptrons without second moments", perceptron, "SECOND_MOMENT", NO_MOMENTS, oracle(oracles.perceptron_is_e3nn)),
    replacement("gates without second moments", gate, "SECOND_MOMENT", NO_MOMENTS, NEQUIP, GATED, oracle(oracles.gate_is_e3nn)),
    mutation(
        *("nequip's perceptron without √2", perceptron, "_scale", lambda f: lambda kind, index, n: f("e3nn", index, n)),
        *(oracle(oracles.perceptron_is_nequips),),
    ),
    mutation("neighbours of another element", slots.DivideBy, "forward", mutants.other_elements, NEQUIP),
    replacement("learned density without its 1", slots.DivideByDensity, "forward", mutants.density_alone, DENSITY),
)

SLOTS = (
    replacement("residual dropped", slots.ElementResidual, "forward", mutants.message_alone, BOTNET, NEQUIP, MACE),
    replacement("selector dropped", slots.Selector, "forward", mutants.message_alone, BOTNET, MACE),
    mutation("products without their highest order", reference, "_product_term", mutants.no_third_order, MACE),
    mutation(
        *(
            "components of coupled factors reversed",
            coupled.CoupledProduct,
            "labels",
            mutants.of_result(lambda found: [a.flip(2) for a in found]),
        ),
        contract(checks.rotation, "ace"),
    ),
    mutation("the first element's product weights for all", product.SymmetricProduct, "forward", mutants.first_element, MACE, DENSITY),
    replacement(
        *("envelope left out", geometry, "polynomial_envelope", lambda r, cutoff, p: (r < cutoff).to(r.dtype)),
        *(contract(checks.cutoff_smoothness, "gaussians"), contract(checks.cutoff_smoothness, "nequip"), BOTNET),
    ),
    mutation(
        "envelope of another exponent", geometry, "polynomial_envelope", lambda f: lambda r, rc, p: f(r, rc, p + 1), BOTNET, NEQUIP, MACE
    ),
    mutation("Bessel prefactors exchanged", radial.RadialBasis, "__init__", mutants.prefactors_exchanged, BOTNET, NEQUIP),
    replacement("Agnesi transform left out", geometry, "agnesi_transform", lambda r, r0: r, MACE),
)

ENERGY = (
    mutation("ZBL not scaled where it should be", zbl.ZBL, "__init__", mutants.after_init(scaled=False), MACE),
    mutation("ZBL scaled where it should not be", zbl.ZBL, "__init__", mutants.after_init(scaled=True), NEQUIP),
    mutation("ZBL counted in both directions", zbl.ZBL, "forward", mutants.of_result(lambda e: 2 * e), NEQUIP, MACE),
    mutation("E0 scaled", Potential, "forward", mutants.e0_scaled, contract(checks.isolated_atom, "nequip"), GATED),
    mutation(
        *("the layers' energies not scaled", Potential, "forward", mutants.layers_not_scaled),
        *(contract(checks.layers_sum_to_the_energy, "nequip"),),
    ),
    mutation("no readout", readout.Readout, "forward", mutants.of_result(torch.zeros_like), contract(checks.visible, "nequip"), BOTNET),
    mutation("weights rounded in the file", file, "to_bytes", mutants.rounded, contract(checks.save_is_load, "nequip")),
    mutation("shift scaled", Potential, "forward", mutants.shift_scaled, GATED, MACE),
    mutation(
        *("a bare atom's own energy left in", Potential, "__init__", mutants.after_init(_subtract_bare=False)),
        *(contract(checks.isolated_atom, "nequip_linear"),),
    ),
    mutation(
        *("energies in float32", Potential, "forward", mutants.of_result(mutants.in_float32)),
        *(contract(checks.single_precision, "nequip"), BOTNET),
    ),
)

DERIVATIVES = (
    mutation(
        *("forces of the wrong sign", checks, "predict", mutants.of_prediction(forces=torch.neg)),
        *(contract(checks.finite_difference_forces, "nequip"),),
    ),
    mutation(
        *("forces of one end of every edge", derivatives, "segment_sum", mutants.receivers_only),
        *(contract(checks.finite_difference_forces, "nequip"), contract(checks.translation, "nequip"), BOTNET),
    ),
    mutation(
        *("half of the virial", checks, "predict", mutants.of_prediction(stress=lambda s: 0.5 * s)),
        *(contract(checks.finite_difference_stress, "nequip"),),
    ),
    mutation(
        *("stress not divided by the volume", derivatives, "require_volume", mutants.of_result(torch.ones_like)),
        *(contract(checks.finite_difference_stress, "nequip"), contract(checks.supercell, "nequip"), NEQUIP),
    ),
    mutation(
        *("virial in place of the stress", checks, "predict", mutants.of_prediction(stress=torch.neg)),
        *(contract(checks.finite_difference_stress, "nequip"),),
    ),
)

MUTATIONS = (*SYMMETRY, *GRAPH, *NORMALISATION, *SLOTS, *ENERGY, *DERIVATIVES)
KILLERS = {killer.name: killer for m in MUTATIONS for killer in m.killers}
