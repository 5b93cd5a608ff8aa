"""docs/design-space.md: its worked example is applied to a copy of the package and run, its table of presets is what the presets say."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from equipot.presets import PRESETS
from equipot.spec import LayerSpec, ModelSpec, body_order, layer_features, with_elements

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "design-space.md"
START, END = "<!-- table: presets -->\n", "<!-- end -->"
COLUMNS = (
    "preset",
    "layers",
    "l of Y",
    "features; body order",
    "product",
    "radial",
    "sum",
    "self-connection, first · later",
    "nonlinearity",
    "readouts",
)


def blocks() -> list[tuple[str, str, str]]:
    """(language, what stands behind it, content) of the page's code blocks."""
    return re.findall(r"^```(\w+) (\S+)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


def apply(folder: Path) -> None:
    """New files written, changes made where they are told, each of which must fit exactly once."""
    for language, where, content in blocks():
        if where == "test":
            continue
        path = folder / where.removeprefix("src/")
        if language == "python":
            assert not path.exists(), f"{where} is there already"
            path.write_text(content)
            continue
        old, new = ("\n".join(line[1:] for line in content.splitlines() if line[0] == sign) for sign in "-+")
        text = path.read_text()
        assert text.count(old) == 1, f"{where}: the page's lines are there {text.count(old)} times: {old}"
        path.write_text(text.replace(old, new))


def test_the_worked_example_runs(tmp_path):
    shutil.copytree(
        REPOSITORY / "src" / "equipot", tmp_path / "equipot", ignore=shutil.ignore_patterns("__pycache__", "csrc", "*.so", "datasets")
    )
    apply(tmp_path)
    [example] = [content for _, where, content in blocks() if where == "test"]
    # the copy alone: an editable installation is found by an import hook, which comes before the path
    head = "import sys\nsys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
    head += f"sys.path[:0] = [{str(tmp_path)!r}, {str(REPOSITORY / 'tests' / 'contracts')!r}]\n"
    head += f"import equipot; assert equipot.__file__.startswith({str(tmp_path)!r}), equipot.__file__\n"
    done = subprocess.run([sys.executable, "-c", head + example], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_example_fails_where_its_module_is_wrong(tmp_path):
    """The contracts it runs see a nonlinearity of components."""
    broken = PAGE.read_text().replace("x_nmk.square().sum(1, keepdim=True)", "x_nmk.square()")
    namespace: dict = {}
    [module] = [c for _, where, c in re.findall(r"^```(\w+) (\S+)\n(.*?)^```$", broken, re.M | re.S) if where.endswith("bounded.py")]
    exec(module, namespace)
    import torch

    from equipot.math import Irreps, transform_features

    irreps, turn = (
        Irreps.parse("2x1o"),
        torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0],
    )
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    turned = namespace["Bounded"](irreps)(torch.from_numpy(transform_features(x.numpy(), irreps, turn.numpy())))
    assert abs(turned.numpy() - transform_features(namespace["Bounded"](irreps)(x).numpy(), irreps, turn.numpy())).max() > 1e-3


def preset_table() -> str:
    """The presets with their defaults, a row each."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for name, preset in PRESETS.items():
        lines.append(f"| {' | '.join([f'`{name}`', *row(with_elements(preset(), (1, 8)))])} |")
    return "\n".join(lines) + "\n"


def row(spec: ModelSpec) -> list[str]:
    first, last = spec.layers[0], spec.layers[-1]
    degrees = sorted({f"{b.l}{'e' if b.p == 1 else 'o'}" for irreps in layer_features(spec)[1:] for b in irreps})
    order = body_order(spec)
    nu = 1 if first.product is None else first.product.correlation
    connections = dict.fromkeys(words(layer.self_connection) for layer in spec.layers)
    return [
        str(len(spec.layers)),
        f"0 … {first.l_max}" if first.l_max else "0",
        f"{' '.join(degrees)}; body order {order or 'unbounded'}",
        f"ν = {nu}" + (f", {first.channels}" if nu > 1 else ""),
        radial(spec, first),
        first.normaliser.kind if first.normaliser.kind == "none" else f"{first.normaliser.kind}, {first.normaliser.place} the map",
        " · ".join(connections),
        words(first.nonlinearity),
        readouts(spec, last),
    ]


def words(name: str) -> str:
    return name.replace("_", " ")


def radial(spec: ModelSpec, layer: LayerSpec) -> str:
    basis = f"{spec.radial_basis.n} {spec.radial_basis.kind}"
    weights = "-".join(map(str, layer.radial.widths)) if layer.radial.kind == "mlp" else ""
    return f"{basis} → {layer.radial.kind} {weights}".strip()


def readouts(spec: ModelSpec, last: LayerSpec) -> str:
    n = sum(layer.readout is not None for layer in spec.layers)
    kind = last.readout.kind if last.readout.kind == "sum" else f"MLP {last.readout.widths[0]}" if last.readout.widths else "linear"
    kind += " without activation" if last.readout.widths and last.readout.activation == "identity" else ""
    return f"last: {kind}" if n == 1 else f"all linear, last {kind}"


def test_the_table_of_presets_is_theirs():
    """To renew it: python tests/docs/test_design_space.py."""
    page = PAGE.read_text()
    assert page[page.index(START) + len(START) : page.index(END)] == preset_table()


@pytest.mark.parametrize("axis", ["nonlinearity", "skip", "self_connection", "channels"])
def test_every_value_of_an_axis_is_on_the_page(axis):
    from typing import get_args

    for value in get_args(LayerSpec.__dataclass_fields__[axis].type):
        assert f"`{value}`" in PAGE.read_text()


if __name__ == "__main__":
    text = PAGE.read_text()
    PAGE.write_text(text[: text.index(START) + len(START)] + preset_table() + text[text.index(END) :])
