"""A token as it is written in a header, a variable or a file: with what comes along when it is copied."""

import re

_PAIRS = ('""', "''", "``", "<>", "\u201c\u201d", "\u2018\u2019")
_BEARER = re.compile(r"bearer(?:[\s:]+|$)", re.IGNORECASE)
_AROUND = " \t\r\n\v\f\0\ufeff\u200b\u00a0"

_LAYERS = 8
"""More than anybody wraps a token into by mistake; the cost of a header that is all quotes stays small."""


def bare_token(text: str) -> str:
    """``text`` without white space, a byte order mark, quotes and the word ``Bearer`` around the token.

    Every place that reads a token uses it, so that a token is the same wherever it was written.
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
    """Whether an ``Authorization`` field is of the scheme ``Bearer``, quotes or not."""
    return bool(_BEARER.match(field.strip(_AROUND + "".join(_PAIRS))))


def decode_field(value: str) -> str:
    """A header's value, which reaches us as Latin-1, as the UTF-8 that clients send."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
