"""Log lines: one JSON object each, or coloured columns for people.

Every module logs through the standard library (``logging.getLogger("codex_server...")``, facts in ``extra``), so
nothing is set up at import; ``configure_logging`` gives every line, uvicorn's too, one format.
"""

import logging
import re
import sys
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_SECRET = re.compile(r"codex_[A-Za-z0-9_-]{43}|(?i:bearer)\s+[^\s\"',]+")


_REQUEST = ("method", "route", "status", "seconds", "language", "outcome", "problem")
"""The fields of a request that a console line shows, in this order."""

Shape = Literal["auto", "json", "console"]


def configure_logging(*, level: str, shape: Shape, stream: TextIO | None = None) -> None:
    """Send log lines of ``level`` and above to ``stream`` (standard error) in ``shape``. ``serve`` calls it once."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(_resolve(shape, stream), colours=stream.isatty()))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # uvicorn's access line would contain the query string and none of our fields; the middleware writes its own.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"


def mask_secrets(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Replace anything that looks like a token with ``***``.

    INVARIANT: this is the last step before a line is written and covers every text in it, tracebacks included.
    """
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _SECRET.sub("***", value)
    return event


def shorten_request(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Reduce a request's fields to those that fit into one terminal line; JSON has them all."""
    if (event.get("logger"), event.get("event")) != ("codex_server.http", "request"):
        return event
    known = [(key, event[key]) for key in _REQUEST if event.get(key) is not None]
    words = [f"{value:.3f} s" if key == "seconds" else str(value) for key, value in known]
    return {"time": event["time"], "level": event["level"], "event": " ".join(words)}


def _resolve(shape: Shape, stream: TextIO) -> Literal["json", "console"]:
    if shape == "auto":
        return "console" if stream.isatty() else "json"
    return shape


def _formatter(shape: Literal["json", "console"], *, colours: bool) -> logging.Formatter:
    # Masking is the last step in every format.
    shaped: list[Processor] = [mask_secrets, structlog.processors.JSONRenderer(ensure_ascii=False)]
    time_format = "iso"
    if shape == "console":
        console = structlog.dev.ConsoleRenderer(colors=colours, timestamp_key="time", pad_event_to=0, sort_keys=False)
        shaped = [shorten_request, mask_secrets, console]
        time_format = "%Y-%m-%dT%H:%M:%SZ"
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt=time_format, utc=True, key="time"),
            structlog.processors.StackInfoRenderer(),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            *shaped,
        ],
    )
