"""Sections on what the model is, how it was trained and what that cost."""

from typing import Any

import numpy as np
from ase.data import chemical_symbols

from equipot.analysis.report.blocks import Block, Code, Facts, Figure, Note, Section, Table, number, significant
from equipot.analysis.report.content import Content
from equipot.analysis.report.plots import lines
from equipot.spec import body_order, correlation_order, layer_features, smoothness

CURVES = {
    "forces_rmse_meV_A": ("Force error", "RMSE, meV/Å"),
    "energy_per_atom_rmse_meV": ("Energy error", "RMSE, meV per atom"),
    "stress_rmse_meV_A3": ("Stress error", "RMSE, meV/Å³"),
    "loss": ("Loss", "loss"),
}


def model(content: Content) -> Section | None:
    """The point of the design space, as tables."""
    if content.potential is None:
        return None
    potential, spec = content.potential, content.potential.spec
    symbols = [chemical_symbols[z] for z in spec.elements]
    order = body_order(spec)
    facts = {
        "preset": spec.preset or "(own)",
        "elements": ", ".join(symbols),
        "cutoff": f"{spec.cutoff:g} Å; with {len(spec.layers)} layers an atom feels others up to {spec.cutoff * len(spec.layers):g} Å away",
        "body order": "unbounded" if order is None else f"{order}: the energy is a sum over clusters of up to {order} atoms",
        "at the cutoff": {"jump": "jumps"}.get(smoothness(spec), f"smooth of class {smoothness(spec)}"),
        "isolated atom": "exactly E0" if spec.isolated_atom == "exact" else "free: its energy is not E0",
        "radial basis": f"{spec.radial_basis.n} {spec.radial_basis.kind} functions, {spec.radial_basis.envelope} envelope",
        "parameters": f"{sum(p.numel() for p in potential.parameters()):,} ({_counts(potential)})",
        "weights": str(content.header.get("dtype", "")),
    }
    energies = Table(
        ["element", "E0 (eV)", "scale (eV)", "shift (eV)"],
        [[s, number(e, 8), number(c, 4), number(t, 4)] for s, e, c, t in zip(symbols, *_energies(potential), strict=True)],
        "E = Σ E0 + scale · (what the layers say) + shift",
    )
    return Section("model", "The model", [Facts(facts), _layers(content), energies])


def _counts(potential: Any) -> str:
    """Parameters of each part of the model that has any."""
    counts: dict[str, int] = {}
    for name, parameter in potential.named_parameters():
        part, _, rest = name.partition(".")
        index = int(rest.split(".")[0]) if part in ("layers", "members") else 0
        numbered = {"layers": f"layer {index + 1}", "members": f"member {index}"}.get(part, part)
        counts[numbered] = counts.get(numbered, 0) + parameter.numel()
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())


def _energies(potential: Any) -> list[list[float]]:
    return [potential.e0.tolist(), potential.scale.tolist(), potential.shift.tolist()]


def _layers(content: Content) -> Table:
    spec = content.potential.spec
    rows = []
    parts = zip(spec.layers, layer_features(spec)[1:], correlation_order(spec), strict=True)
    for index, (layer, features, order) in enumerate(parts, start=1):
        radial = layer.radial
        readout = "none" if layer.readout is None else "-".join(map(str, layer.readout.widths)) or "linear"
        rows.append([
            index,
            str(features),
            layer.l_max,
            f"{radial.kind} {'-'.join(map(str, radial.widths))}" + ("" if radial.elements == "none" else f", per {radial.elements}"),
            1 if layer.product is None else layer.product.correlation,
            "unbounded" if order is None else order,
            layer.self_connection.replace("_", " "),
            layer.nonlinearity,
            readout,
        ])  # fmt: skip
    columns = ["layer", "features", "l max", "radial weights", "factors", "correlation order", "self-connection", "nonlinearity", "readout"]
    caption = "Factors: A functions multiplied in this layer. Correlation order: neighbours that act together in the features behind it."
    return Table(columns, rows, caption)


def training(content: Content) -> Section | None:
    """Curves of errors, loss and learning rate."""
    metrics = content.metrics
    if "epoch" not in metrics:
        return _members(content)
    epoch = metrics["epoch"]
    blocks: list[Block] = []
    for column, (title, axis) in CURVES.items():
        parts = {"training": f"train_{column}", "validation": f"valid_{column}"}
        series = [(label, epoch, metrics[c]) for label, c in parts.items() if c in metrics and np.isfinite(metrics[c]).any()]
        if series:
            blocks.append(lines(f"curve-{column.replace('_', '-')}", title, series, "epoch", axis, log=True))
    if "learning_rate" in metrics and np.isfinite(metrics["learning_rate"]).any():
        blocks.append(
            lines("curve-rate", "Learning rate", [("learning rate", epoch, metrics["learning_rate"])], "epoch", "learning rate", log=True)
        )
    if any(isinstance(b, Figure) for b in blocks):
        blocks.append(
            Note(
                "Training errors are those of the weights while they move, validation errors those of the averaged weights, which are kept."
            )
        )
    if content.config_text:
        blocks.append(Code("Configuration of this run", content.config_text))
    return Section("training", "The training", blocks)


def _members(content: Content) -> Section | None:
    """The same of an ensemble: a curve for each member's validation errors."""
    blocks: list[Block] = []
    for column, (title, axis) in CURVES.items():
        found = [(name, m["epoch"], m[f"valid_{column}"]) for name, m in content.members.items() if f"valid_{column}" in m]
        series = [s for s in found if np.isfinite(s[2]).any()]
        if series:
            blocks.append(
                lines(f"curve-{column.replace('_', '-')}", f"{title} of the members, validation", series, "epoch", axis, log=True)
            )
    if content.config_text:
        blocks.append(Code("Configuration of this run", content.config_text))
    return Section("training", "The training", blocks) if blocks else None


def timing(content: Content) -> Section | None:
    """What it cost."""
    metrics, known = content.metrics, content.provenance
    facts = {}
    if metrics.get("elapsed_s") is not None and len(metrics["elapsed_s"]):
        steps = np.asarray(metrics["step_ms"], dtype=float)
        if np.isfinite(steps).any():
            facts["training"] = (
                f"{duration(metrics['elapsed_s'][-1])}, {int(metrics['updates'][-1]):,} updates in {len(metrics['epoch'])} epochs"
            )
            facts["one update"] = f"{significant(float(np.nanmedian(steps)))} ms (median, with loading)"
        else:  # solved by least squares: a row for each regularisation tried
            facts["fit"] = f"{duration(metrics['elapsed_s'][-1])}, {len(metrics['epoch'])} regularisations tried"
    if known.get("epoch") is not None:
        facts["best model"] = f"after epoch {int(known['epoch'])} ({duration(known.get('elapsed_s', 0))})"
    for run in content.simulations:
        speed = run.log.get("steps_per_s")
        if speed is not None and np.isfinite(speed).any():
            per_day = run.log["ns_per_day"]
            facts[f"dynamics {run.name}"] = (
                f"{significant(float(np.nanmedian(speed)))} steps/s, {significant(float(np.nanmedian(per_day)))} ns/day"
            )
    return Section("timing", "Timing", [Facts(facts)]) if facts else None


def duration(seconds: float) -> str:
    """Seconds in words: 75 s, 12 min, 3 h 05 min."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
