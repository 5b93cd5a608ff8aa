"""The importers' parts, and what they refuse: by name, before anything is written."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from e3nn import o3
from typer.testing import CliRunner

from equipot.cli import importer
from equipot.errors import UserError
from equipot.model import load_model
from equipot.model.importers import import_bundle
from equipot.model.importers.bundle import parse_modules, read_bundle
from equipot.model.importers.e3nn_layout import couplings, element_matrices, linear_matrices, parse_layout, printed_layouts

PACKAGED = Path(__file__).parent / "bundles"


def test_module_trees_are_read():
    text = "Net(\n  (a): List(\n    (0-1): 2 x Block(\n      (lin): Linear(2x0e -> 1x0e | 2 weights)\n    )\n  )\n  (b): Gate (3x0e -> 1x0e)\n)"
    found = parse_modules(text)
    assert found["a.1.lin"] == "Linear(2x0e -> 1x0e | 2 weights)"
    assert found["b"] == "Gate (3x0e -> 1x0e)"
    assert set(found) == {"", "a", "a.0", "a.1", "a.0.lin", "a.1.lin", "b"}


def test_printed_irreps_are_read():
    assert printed_layouts("FullyConnectedTensorProduct(2x0e+1x1o x 3x0e -> 2x0e | 12 paths | 12 weights)") == (
        [(2, 0, 1), (1, 1, -1)],
        [(2, 0, 1)],
    )
    for bad in ("Linear()", "Linear(8y0e -> 1x0e)", ""):
        with pytest.raises(UserError, match="cannot be read"):
            printed_layouts(bad)


@pytest.mark.parametrize(("inputs", "outputs"), [("2x0e+3x1o", "4x0e+2x1o"), ("2x0o+2x0e+1x1o+3x0e", "1x1o+2x0e+2x1o"), ("2x0e", "3x1o")])
def test_linear_maps_are_e3nns(inputs, outputs):
    """Repeated blocks, any order: one matrix per irrep, channels in the order of the blocks."""
    module = o3.Linear(inputs, outputs).double()
    matrices = linear_matrices(module.weight.detach().numpy(), parse_layout(inputs), parse_layout(outputs))
    x = torch.randn(4, o3.Irreps(inputs).dim, dtype=torch.float64)
    got = by_irrep(module(x).detach(), outputs)
    for key, values in by_irrep(x, inputs).items():
        if key in got:
            assert np.allclose(np.einsum("nkm,kq->nqm", values, matrices[key]), got[key], rtol=0, atol=1e-12)
        else:
            assert key not in matrices


def test_element_dependent_maps_are_e3nns():
    module = o3.FullyConnectedTensorProduct("2x0e+3x1o", "4x0e", "3x1o+2x0e").double()
    matrices = element_matrices(module.weight.detach().numpy(), parse_layout("2x0e+3x1o"), 4, parse_layout("3x1o+2x0e"))
    x, t = torch.randn(5, 11, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    got = by_irrep(module(x, t).detach(), "3x1o+2x0e")
    for key, values in by_irrep(x, "2x0e+3x1o").items():
        assert np.allclose(np.einsum("nkm,na,akq->nqm", values, t, matrices[key]), got[key], rtol=0, atol=1e-12)


def by_irrep(x: torch.Tensor, irreps: str) -> dict:
    """(l, p) → (n, channels, components)."""
    parts: dict = {}
    for (mul, ir), block in zip(o3.Irreps(irreps), o3.Irreps(irreps).slices(), strict=True):
        parts.setdefault((ir.l, ir.p), []).append(x[:, block].reshape(len(x), mul, ir.dim).numpy())
    return {key: np.concatenate(p, axis=1) for key, p in parts.items()}


def test_the_number_of_weights_must_fit():
    for n in (3, 5):
        with pytest.raises(UserError, match="weights are too"):
            linear_matrices(np.zeros(n), [(2, 0, 1)], [(2, 0, 1)])


def test_every_coupling_has_its_own_channels():
    for by_output in (False, True):
        found = couplings(parse_layout("3x0o+2x0e+2x1o+4x1e"), 3, {(0, 1), (1, 1), (1, -1), (2, -1)}, by_output)
        columns = np.concatenate([c.columns for c in found.values()])
        assert sorted(columns) == list(range(len(columns)))
        for target in ((0, 1), (1, 1), (1, -1), (2, -1)):
            rows = np.concatenate([c.rows for (_, p1, l2, l3), c in found.items() if (l3, p1 * (-1) ** l2) == target])
            assert sorted(rows) == list(range(len(rows)))


# ---- what is refused ----


def altered(tmp_path: Path, name: str = "botnet_agnostic", meta=None, drop: str = "", **arrays) -> Path:
    """A packaged bundle with a changed description or changed arrays."""
    with np.load(PACKAGED / f"{name}.npz") as archive:
        content = {key: archive[key] for key in archive.files if key != drop}
    if meta is not None:
        description = json.loads(str(content["meta.json"]))
        meta(description)
        content["meta.json"] = np.array(json.dumps(description))
    path = tmp_path / "bundle.npz"
    np.savez(path, **{**content, **arrays})
    return path


def refused(path: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        import_bundle(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    for word in words:
        assert word in message, message


def swap(old: str, new: str):
    """A change of the printed modules."""
    return lambda meta: meta.update(modules=meta["modules"].replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("botnet_agnostic", "AgnosticNonlinearInteractionBlock", "FourierAgnosticInteractionBlock"),
        ("botnet_agnostic", "LinearReadoutBlock", "FourierReadoutBlock"),
        ("botnet_agnostic", "(node_embedding)", "(charge_embedding)"),
        ("nequip_parity_zbl", "Gate (", "SwitchGate ("),
        ("nequip_parity_zbl", "): ZBL(", "): LennardJones("),
        ("nequip_parity_zbl", "Mish()", "Softplus()"),
        ("nequip_parity_zbl", "x 1x0e+1x1o+1x2e ->", "x 1x0e+1x1e+1x2e ->"),
        ("mace_density_parities", "RealAgnosticDensityInteractionBlock", "RealAgnosticAttResidualInteractionBlock"),
        ("mace_density_parities", "BesselBasis", "ChebychevBasis"),
        ("mace_density_parities", "MACE(", "AtomicDipolesMACE("),
        ("mace_products_zbl_agnesi", "AgnesiTransform", "SteepTransform"),
        ("mace_products_zbl_agnesi", "a=1.0805", "a=1.0905"),
        ("mace_products_zbl_agnesi", "EquivariantProductBasisBlock", "OtherProduct"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(tmp_path, name, old, new):
    word = new.strip("(): ").split("(")[0].removeprefix("x ").split(" ->")[0]
    refused(altered(tmp_path, name, swap(old, new)), word if "x0e" not in word else "edge attributes")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("botnet_agnostic", "gate", "sine"),
        ("botnet_agnostic", "edge_vector", "r_sender - r_receiver"),
        ("botnet_agnostic", "atomic_numbers", [1, 6, 6]),
        ("botnet_agnostic", "activation_second_moment_constants", {"silu": 1.5}),
        ("nequip_parity_zbl", "nonlinearities", [["silu"], ["abs"], ["silu"]]),
        ("nequip_parity_zbl", "convnet_nonlinearity_scalars", {"e": "ssp", "o": "tanh"}),
        ("nequip_parity_zbl", "polynomial_cutoff_p", 5.5),
        ("mace_density_parities", "use_so3", True),
        ("mace_density_parities", "atomic_energies", [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]),
    ],
)
def test_settings_without_a_counterpart_are_refused(tmp_path, name, key, value):
    refused(altered(tmp_path, name, lambda meta: meta.update({key: value})))


def test_missing_settings_are_named(tmp_path):
    refused(altered(tmp_path, meta=lambda meta: meta.pop("avg_num_neighbors")), "avg_num_neighbors")


def test_other_packages_are_refused(tmp_path):
    refused(altered(tmp_path, meta=lambda meta: meta.update(package="schnetpack 2.0")), "schnetpack")


def test_weights_must_be_all_there_and_used(tmp_path):
    weight = "weights/interactions.1.linear.weight"
    refused(altered(tmp_path, drop=weight), "interactions.1.linear.weight")
    refused(altered(tmp_path, **{weight: np.zeros(3)}), "too few")
    with np.load(PACKAGED / "botnet_agnostic.npz") as archive:
        poisoned = archive[weight].copy()
    poisoned[0] = np.nan
    refused(altered(tmp_path, **{weight: poisoned}), "interactions.1.linear.weight", "finite")
    refused(altered(tmp_path, **{"weights/interactions.1.bias": np.zeros(3)}), "interactions.1.bias")


def test_couplings_outside_the_symmetric_equivariants_are_refused(tmp_path):
    name = "buffers/products.0.symmetric_contractions.contractions.0.U_matrix_2"
    with np.load(PACKAGED / "mace_products_zbl_agnesi.npz") as archive:
        u = archive[name].copy()
    u[0, 1, 0] += 1e-6
    refused(altered(tmp_path, "mace_products_zbl_agnesi", **{name: u}), "coupling tensor of order 2", "e-0")


def test_what_is_not_a_bundle_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such bundle"):
        read_bundle(tmp_path / "missing.npz")
    path = tmp_path / "other.npz"
    whole = (PACKAGED / "botnet_tables.npz").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-30], b"\x80\x04pickle"):
        path.write_bytes(content)
        refused(path)
    np.savez(path, a=np.zeros(3))
    refused(path, "meta.json")
    np.savez(path, **{"meta.json": np.array("{not json")})
    refused(path, "meta.json")
    np.savez(path, **{"meta.json": np.array([{"package": "pickled"}], dtype=object)})
    refused(path)


# ---- the command ----


@pytest.fixture
def command():
    app = typer.Typer()
    app.callback()(lambda: None)
    importer.register(app)
    return lambda *arguments: CliRunner().invoke(app, ["import", *map(str, arguments)])


def test_the_command_writes_an_ordinary_model(tmp_path, command):
    found = command(PACKAGED / "nequip_parity_zbl.npz", "-o", tmp_path / "m.equipot")
    assert found.exit_code == 0, found.output
    assert "stress" in found.output
    assert load_model(tmp_path / "m.equipot").spec.pair.kind == "zbl"


def test_the_command_refuses_results_that_disagree(tmp_path, command):
    with np.load(PACKAGED / "botnet_tables.npz") as archive:
        energy = archive["frame1/energy"] + 1e-6
    found = command(altered(tmp_path, "botnet_tables", **{"frame1/energy": energy}), "-o", tmp_path / "m.equipot")
    assert isinstance(found.exception, UserError)
    assert "frame 1: the energy differs" in str(found.exception)
    assert not (tmp_path / "m.equipot").exists()
