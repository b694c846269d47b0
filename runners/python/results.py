"""What is shown of a value: a bundle of forms by media type, always with ``text/plain``."""

import binascii
import sys
from io import BytesIO
from itertools import islice
from json import dumps
from typing import Any

LONGEST_TEXT = 100_000
"""Characters of a ``text/plain``; the rest is cut."""
_MOST_ITEMS = LONGEST_TEXT // 3 + 1
"""So many items fill that text at least, two characters being between them."""
_MOST_BYTES = 2**21 - 2**16
"""Of a reply: it stays below 2 MiB."""
_METHODS = {
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
    "text/latex": "_repr_latex_",
    "application/json": "_repr_json_",
}
Bundle = dict[str, Any]


def bundle(value: object) -> Bundle:
    """All forms that ``value`` offers. What raises is left out, and stderr says so."""
    forms: Bundle = {"text/plain": plain(value)}
    if isinstance(value, type):
        return forms
    figure = _figure(value)
    if figure is not None:
        _add(forms, "image/png", _drawn(figure), value, "savefig")
    for kind, form in _offered_bundle(value).items():
        _add(forms, kind, form, value, "_repr_mimebundle_")
    for kind, method in _METHODS.items():
        if kind not in forms and not (kind == "image/jpeg" and "image/png" in forms):
            _add(forms, kind, _offer(value, method), value, method)
    return forms


def plain(value: object) -> str:
    """``repr``, cut; where it fails, what the value is and why."""
    try:
        text = repr(_beginning(value))
    except Exception as error:
        return f"<{_name(value)} object, whose repr failed: {_describe(error)}>"
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[: LONGEST_TEXT - 1]}…"


def _beginning(value: Any) -> Any:
    """As much of a builtin container as is shown: the text of all of it might not fit into memory."""
    kind = type(value)
    if kind in (list, tuple, str, bytes, bytearray) and len(value) > LONGEST_TEXT:
        return value[: LONGEST_TEXT if kind in (str, bytes, bytearray) else _MOST_ITEMS]
    if kind in (set, frozenset, dict) and len(value) > LONGEST_TEXT:
        return kind(islice(value.items() if kind is dict else value, _MOST_ITEMS))
    return value


def _offer(value: object, method: str) -> Any:
    """What the method of the value's class returns, without metadata; None when it has none, or when that fails."""
    function = getattr(type(value), method, None)
    if not callable(function):
        return None
    try:
        form = function(value)
    except Exception as error:
        _complain(value, method, error)
        return None
    return form[0] if isinstance(form, tuple) and form else form


def _offered_bundle(value: object) -> Bundle:
    offered = _offer(value, "_repr_mimebundle_")
    if isinstance(offered, dict):
        return {str(kind): form for kind, form in offered.items()}
    if offered is not None:
        _complain(value, "_repr_mimebundle_", TypeError(f"it returned {_name(offered)}, not dict"))
    return {}


def _add(forms: Bundle, kind: str, form: Any, value: object, method: str) -> None:
    """Put the form into the bundle, as JSON holds it."""
    try:
        if isinstance(form, bytes | bytearray):
            form = binascii.b2a_base64(form, newline=False).decode()
        if form is not None and kind != "text/plain":
            dumps(form, allow_nan=False)
            forms[kind] = form
    except Exception as error:
        _complain(value, method, error)


def _complain(value: object, method: str, error: Exception) -> None:
    sys.stderr.write(f"{_name(value)}.{method} failed, so this form is left out: {_describe(error)}\n")


def _name(value: object) -> str:
    return type(value).__name__


def _describe(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # its own text fails too
        return type(error).__name__


def _figure(value: Any) -> Any:
    """The figure of matplotlib's that ``value`` is, or whose axes it is; None for anything else."""
    figures, axes = (sys.modules.get(f"matplotlib.{name}") for name in ("figure", "axes"))
    if axes and isinstance(value, axes.Axes):
        value = value.figure
    if not figures or not isinstance(value, figures.FigureBase):
        return None
    while not isinstance(value, figures.Figure):  # a part of one
        value = value.figure
    return value


def _drawn(figure: Any) -> bytes | None:
    content = BytesIO()
    try:
        figure.savefig(content, format="png")
    except Exception as error:
        _complain(figure, "savefig", error)
        return None
    return content.getvalue()


class Displays:
    """What a cell has displayed last: its result, when it has no value of its own."""

    def __init__(self) -> None:
        self._last: Bundle | None = None

    def display(self, *objects: object) -> None:
        """Show each of ``objects``: its text on standard output; the richer forms of the last one that has any stay."""
        for value in objects:
            forms = bundle(value)
            print(forms.pop("text/plain"))  # noqa: T201
            self._last = forms or self._last

    def take(self) -> Bundle | None:
        """The richer forms of what was displayed last since the last call; without text, which was printed."""
        taken, self._last = self._last, None
        return taken


def encode(code: int, result: Bundle | None) -> bytes:
    """The reply to a cell, short enough: the largest forms are left out first, and stderr says so."""
    forms = dict(result or {})
    for kind in sorted(forms.keys() - {"text/plain"}, key=lambda kind: -len(_encode(forms[kind]))):
        if len(_encode(forms)) <= _MOST_BYTES:
            break
        size = len(_encode(forms.pop(kind)))
        sys.stderr.write(f"a form {kind} of {size:,} bytes is left out: the result would be too large\n")
    return _encode({"exit_code": code, "result": forms or None})


def _encode(value: object) -> bytes:
    return dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
