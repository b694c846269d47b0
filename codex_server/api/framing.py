"""Whether the head of a request keeps HTTP's rules, beyond what the parser looks at (RFC 9110, RFC 9112).

The parser is lenient where two servers in a row could read one request differently, and that is how requests are
smuggled past a proxy. What is ambiguous is refused here, with the rule that it breaks.
"""

import re
from collections.abc import Sequence

import httptools

Fields = Sequence[tuple[bytes, bytes]]
"""Names in lower case, with their values."""
_HOST = re.compile(rb"(?:\[[\w.:%-]+\]|[\w.%~!$&'()*+;=-]*)(?::\d*)?", re.ASCII)
_SCHEMES = (b"http://", b"https://")
_OF_AN_OFFER = frozenset({b"upgrade", b"http2-settings"})


class HeadRefused(ValueError):
    """The head breaks a rule; ``status`` and ``detail`` are the response."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def checked_target(method: bytes, target: bytes, version: str, fields: Fields) -> bytes:
    """What the request asks for: a path with its query, or ``*``. Raises ``HeadRefused``."""
    if version not in ("1.0", "1.1"):
        raise HeadRefused(505, f"this server does not speak HTTP/{version}; send an HTTP/1.1 request")
    if method == b"CONNECT":
        raise HeadRefused(501, "this server is no proxy; send the request itself, such as POST /execute")
    _check_host([value for name, value in fields if name == b"host"], version)
    _check_coding([value for name, value in fields if name == b"transfer-encoding"], version)
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target
    if target.lower().startswith(_SCHEMES):
        parsed = httptools.parse_url(target)
        return (parsed.path or b"/") + (b"?" + parsed.query if parsed.query else b"")
    raise HeadRefused(400, "the request line names no path of this server; send for example POST /execute HTTP/1.1")


def head_without_offer(method: bytes, target: bytes, version: str, fields: Fields) -> bytes:
    """The head of a request again, as if it did not offer to speak another protocol (``Upgrade: h2c``)."""
    lines = [b"%s %s HTTP/%s" % (method, target, version.encode("ascii"))]
    for name, value in fields:
        if name == b"connection":
            kept = [word for word in value.split(b",") if word.strip().lower() not in _OF_AN_OFFER]
            lines += [b"connection: " + b",".join(kept)] if kept else []
        elif name not in _OF_AN_OFFER:
            lines.append(name + b": " + value)
    return b"\r\n".join([*lines, b"", b""])


def _check_host(hosts: Sequence[bytes], version: str) -> None:
    if len(hosts) > 1:
        raise HeadRefused(400, f"the header has {len(hosts)} Host fields; send one")
    if not hosts and version == "1.1":
        raise HeadRefused(400, "the header has no Host field, which HTTP/1.1 asks for; send one")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise HeadRefused(400, "the Host field is not the name of a host; send for example Host: 127.0.0.1:8000")


def _check_coding(codings: Sequence[bytes], version: str) -> None:
    if not codings:
        return
    if version == "1.0":
        raise HeadRefused(400, "HTTP/1.0 has no Transfer-Encoding; send Content-Length, or an HTTP/1.1 request")
    if any(coding.strip().lower() != b"chunked" for coding in codings):
        raise HeadRefused(501, "this server takes no Transfer-Encoding but `chunked`; send the body as it is")
