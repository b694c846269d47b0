"""Which encoding a text has that should be UTF-8: editors and tools write others without a word."""

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
"""Where the zero bytes are in the first two or four characters of a text that begins in ASCII."""
_OTHERS = {b"\x1f\x8b": "compressed with gzip", b"\x28\xb5\x2f\xfd": "compressed with zstd"}


def decode_text(data: bytes) -> str:
    """The text, without a byte order mark in front. Raises ``ValueError`` that says what it is instead of UTF-8."""
    if what := name_encoding(data):
        raise ValueError(f"it is {what}, not UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from None


def name_encoding(data: bytes) -> str | None:
    """What ``data`` is where its first bytes tell that it is no UTF-8, else None."""
    known = next((name for mark, name in (_MARKS | _OTHERS).items() if data.startswith(mark)), None)
    return known or _ZEROS.get(tuple(byte == 0 for byte in data[:4]))
