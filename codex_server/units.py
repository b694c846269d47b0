"""Converts between sizes as people write them and numbers: ``"64MiB"`` is 67_108_864 bytes."""

import re

_FACTORS = {"": 1, "B": 1, "K": 2**10, "KIB": 2**10, "M": 2**20, "MIB": 2**20, "G": 2**30, "GIB": 2**30}
_DECIMAL = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` means: ``"64MiB"``, ``"1 GiB"``, ``"500kB"`` (decimal) or ``"4096"``.

    Raises ``ValueError``, which names the accepted forms.
    """
    match = _SIZE.fullmatch(text)
    factor = {**_FACTORS, **_DECIMAL}.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not a size; write a number of bytes, or for example 64MiB, 1GiB or 500kB")
    return int(float(match[1]) * factor)


def format_size(count: int) -> str:
    """Format ``count`` bytes in the largest binary unit that is not above it: 268435456 is ``"256 MiB"``."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:g} {unit}" if size == int(size) else f"{size:.1f} {unit}"
        size /= 1024
    return f"{int(size)} GiB" if size == int(size) else f"{size:.1f} GiB"


def format_sizes(size: int, cap: int) -> tuple[str, str]:
    """Format two sizes for comparison: in bytes when their short forms are equal."""
    short, short_cap = format_size(size), format_size(cap)
    if size != cap and short.replace(".0 ", " ") == short_cap.replace(".0 ", " "):
        return f"{size} bytes", f"{cap} bytes"
    return short, short_cap


def format_seconds(seconds: float) -> str:
    """Format seconds without trailing zeros: 10.0 is ``"10 s"``, 0.5 is ``"0.5 s"``."""
    return f"{seconds:g} s"
