"""Detects the encoding of a text that should be UTF-8: some editors and tools write others silently."""

import codecs

UTF8_MARK = codecs.BOM_UTF8
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_ZEROS: dict[tuple[bool, ...], str] = {
    (False, True, True, True): "UTF-32",
    (True, True, True, False): "UTF-32",
    (False, True, False, True): "UTF-16",
    (True, False, True, False): "UTF-16",
}
"""The zero bytes among the first four bytes of a text that begins with ASCII characters."""
_OTHERS = {b"\x1f\x8b": "compressed with gzip", b"\x28\xb5\x2f\xfd": "compressed with zstd"}


def decode_text(data: bytes) -> str:
    """Return the text without a leading byte order mark. Raises ``ValueError``, which names the actual encoding."""
    if what := name_encoding(data):
        raise ValueError(f"it is {what}, not UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from None


def name_encoding(data: bytes) -> str | None:
    """Return the encoding that the first bytes of ``data`` show, or None when it may be UTF-8."""
    known = next((name for mark, name in (_MARKS | _OTHERS).items() if data.startswith(mark)), None)
    return known or _ZEROS.get(tuple(byte == 0 for byte in data[:4]))
