"""Which files go first where an answer cannot hold them all: figures, then the smallest; the order never is chance."""

_FIGURES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".avif", ".bmp")


def is_figure(path: str) -> bool:
    """Whether a person would look at it rather than open it."""
    return path.lower().endswith(_FIGURES)


def rank(path: str, cost: int) -> tuple[bool, int, str]:
    """What to sort by: as many files as possible fit when the cheapest come first, and figures before all others."""
    return (not is_figure(path), cost, path)
