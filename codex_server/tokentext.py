"""Cleans a token from a header, a variable or a file of what people copy along with it."""

import re

_PAIRS = ('""', "''", "``", "<>", "\u201c\u201d", "\u2018\u2019")
_BEARER = re.compile(r"bearer(?:[\s:]+|$)", re.IGNORECASE)
_AROUND = " \t\r\n\v\f\0\ufeff\u200b\u00a0"

_LAYERS = 8
"""More than a copied token ever has; it bounds the cost of a header that is all quotes."""


def bare_token(text: str) -> str:
    """Return ``text`` without white space, a byte order mark, quotes and the word ``Bearer`` around the token.

    Every place that reads a token uses this function, so a token is the same wherever it was written.
    """
    for _ in range(_LAYERS):
        bare = text.strip(_AROUND)
        if word := _BEARER.match(bare):
            bare = bare[word.end() :]
        if len(bare) > 1 and bare[0] + bare[-1] in _PAIRS:
            bare = bare[1:-1]
        if bare == text:
            break
        text = bare
    return text


def is_bearer(field: str) -> bool:
    """Return whether an ``Authorization`` field has the scheme ``Bearer``, in quotes or not."""
    return bool(_BEARER.match(field.strip(_AROUND + "".join(_PAIRS))))


def decode_field(value: str) -> str:
    """Decode a header's value, which arrives as Latin-1, as the UTF-8 that clients send."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
