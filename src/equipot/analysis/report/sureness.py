"""The section on uncertainty: stated deviations against errors, where the model states any."""

from equipot.analysis import uncertainty
from equipot.analysis.report.blocks import Block, Figure, Note, Section, Table, number
from equipot.analysis.report.content import Content, PredictedSet

UNIT = {"energy": "meV/atom", "forces": "meV/Å"}


def sureness(content: Content) -> Section | None:
    """Calibration, error against uncertainty, and how well foreign sets are told apart; nothing for a model that states no deviations."""
    sets = {s.name: (s.frames, s.predictions) for s in known_first(content.sets)}
    assessed = uncertainty.assess(sets) if sets else {}
    if not assessed:
        return None
    rows = [
        [name, f"{quantity} ({UNIT[quantity]})", number(m["ratio"]), number(m["miscalibration"], 2), number(m["spearman"], 2)]
        for quantity, parts in assessed.items()
        for name, m in parts["sets"].items()
    ]
    caption = "Error / deviation: root mean square, 1 where the size is right, above 1 where the model is too sure."
    blocks: list[Block] = [Table(["set", "quantity", "error / deviation", "miscalibration", "rank correlation"], rows, caption)]
    blocks += [Note(f"{words[:1].upper()}{words[1:]}.") for words in uncertainty.words(assessed)]
    blocks += [Figure(f["name"], f["title"], f["data"], f["layout"], f["caption"]) for f in uncertainty.figures(sets)]
    return Section("uncertainty", "How sure the model is", blocks)


def known_first(sets: list[PredictedSet]) -> list[PredictedSet]:
    """What counts as known stands first: validation data, else the first set. Trained ones say little and are left out, unless alone."""
    others = [s for s in sets if s.name != "train"] or sets
    return sorted(others, key=lambda s: s.name != "validation")
