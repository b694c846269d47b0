"""``observe/logging.py``: the shape of log lines."""

import io
import json
import logging
import re

import pytest

from codex_server.observe.logging import configure_logging


@pytest.fixture
def configured():
    """Configure into a text; everything is as before afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level

    def configure(shape="json", level="info"):
        stream = io.StringIO()
        configure_logging(level=level, shape=shape, stream=stream)
        return stream

    yield configure
    root.handlers[:], root.level = before


def test_json_lines_carry_time_level_logger_and_facts(configured):
    stream = configured()
    logging.getLogger("codex_server.x").warning("it %s", "happened", extra={"count": 3})
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["logger"], line["count"]) == (
        "it happened",
        "warning",
        "codex_server.x",
        3,
    )
    assert line["time"].endswith("Z")


def test_console_lines_are_for_eyes_and_without_colours_where_nobody_looks(configured):
    stream = configured(shape="console")
    logging.getLogger("codex_server.x").warning("it happened", extra={"count": 3})
    assert "it happened" in stream.getvalue()
    assert "count=3" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_auto_is_json_where_nobody_looks(configured):
    stream = configured(shape="auto")
    logging.getLogger("codex_server.x").warning("it happened")
    assert json.loads(stream.getvalue())["event"] == "it happened"


def test_lines_below_the_level_are_dropped(configured):
    stream = configured(level="warning")
    logging.getLogger("codex_server.x").info("it happened")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    "text",
    ["codex_" + "a" * 43, "Authorization: Bearer abc.def", "x codex_" + "-_9" * 14 + "b y", "bearer\tsecret,rest"],
)
def test_tokens_are_masked_wherever_they_stand(configured, text):
    stream = configured()
    logging.getLogger("codex_server.x").warning(text, extra={"fact": text})
    for hidden in ("a" * 43, "abc.def", "-_9-_9", "secret"):
        assert hidden not in stream.getvalue()
    assert "***" in stream.getvalue()


def test_uvicorns_lines_have_the_same_shape_and_its_access_line_is_off(configured):
    stream = configured()
    logging.getLogger("uvicorn.error").warning("started")
    logging.getLogger("uvicorn.access").warning("GET /?token=x")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["started"]


def test_a_line_break_in_a_text_stays_one_line(configured):
    stream = configured()
    logging.getLogger("codex_server.x").warning("one\ntwo")
    assert len(stream.getvalue().splitlines()) == 1


def test_on_a_terminal_a_request_is_a_short_line_with_the_time_first(configured):
    stream = configured(shape="console")
    facts = {
        "method": "POST", "route": "/execute", "status": 200, "seconds": 0.012345, "caller": "default",
        "code_sha256": "f" * 64, "language": "python", "outcome": "succeeded", "problem": None,
    }  # fmt: skip
    logging.getLogger("codex_server.http").info("request", extra=facts)
    time, _, rest = stream.getvalue().partition(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time)
    assert rest == "[info     ] POST /execute 200 0.012 s python succeeded\n"
