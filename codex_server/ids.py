"""Identifiers that sort by creation time: ``exe_01k9…`` (48 bits of milliseconds, 80 random bits)."""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u


def new_id(prefix: str) -> str:
    """Return a new id such as ``exe_01k9vj3m8q…``: ``prefix``, an underscore, 26 characters."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def made_at(made_id: str) -> float | None:
    """Return when ``made_id`` was made, in seconds since the epoch; None for what ``new_id`` does not make."""
    _, _, number = made_id.rpartition("_")
    if len(number) != 26 or not set(number) <= set(_ALPHABET):
        return None
    return (sum(_ALPHABET.index(digit) << 5 * place for place, digit in enumerate(reversed(number))) >> 80) / 1000
