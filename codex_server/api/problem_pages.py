"""Every kind of problem explained, from the one table: as ``docs/problems.md`` and as the page ``GET /problems``."""

import html
import re

from codex_server.api.problems import Kind, kinds

_CODE = re.compile(r"`([^`]+)`")
_INTRODUCTION = (
    "Every refusal is an RFC 9457 problem, `application/problem+json`: `type` (leads here), `title`, `status`, "
    "`detail` (what happened and what to do), `instance` (the request's id, also in `X-Request-ID` and in the log) "
    "and `code` (the word below). A 400 or 422 for a part of the body has `errors`: a JSON Pointer and a sentence "
    "for each part. A program that fails is no problem: it is a response with HTTP 200, and `status` reports it."
)
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}"
    "code{background:#f0f0f0;padding:0 .25em;border-radius:3px}h2{margin-top:2rem}"
    "@media(prefers-color-scheme:dark){body{background:#161616;color:#e4e4e4}code{background:#2b2b2b}}"
)


def as_markdown() -> str:
    """The text of ``docs/problems.md``."""
    parts = ["# Problems", _INTRODUCTION, "| code | status |\n| --- | --- |\n" + _rows()]
    parts += [f"## {kind.slug}\n\n{kind.status}: {kind.title}.\n\n{kind.meaning}\n\n{kind.remedy}" for kind in kinds()]
    return "\n\n".join(parts) + "\n"


def as_html() -> str:
    """The page; each kind's heading has its slug as anchor, which is where ``type`` leads."""
    sections = "".join(map(_section, kinds()))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Codex Server: problems</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><h1>Problems</h1><p>{_inline(_INTRODUCTION)}</p>{sections}</body></html>"
    )


def _rows() -> str:
    return "\n".join(f"| [{kind.slug}](#{kind.slug}) | {kind.status} |" for kind in kinds())


def _section(kind: Kind) -> str:
    heading = f'<h2 id="{kind.slug}">{kind.slug} <small>({kind.status})</small></h2>'
    return f"{heading}<p><b>{_inline(kind.title)}.</b> {_inline(kind.meaning)}</p><p>{_inline(kind.remedy)}</p>"


def _inline(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", html.escape(text))
