"""The colours of series, in every picture and on every page."""

COLOURS = ("#3b7dd8", "#e07b28", "#2a9d6f", "#d1495b", "#8f6bc1", "#8c7a4f", "#3fa7b5", "#7a8594")
GREY = COLOURS[-1]  # of what is drawn for comparison


def colour(index: int) -> str:
    """The colour of the index-th series."""
    return COLOURS[index % len(COLOURS)]
