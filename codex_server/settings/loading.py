"""Loads the settings, and explains those that are wrong by where their values come from."""

import difflib
import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from codex_server.configfile import CONFIG_FILE
from codex_server.errors import SettingsInvalid
from codex_server.settings.field_types import is_size
from codex_server.settings.settings import ENV_PREFIX, Settings
from codex_server.units import format_size

_A_CONSEQUENCE = "default_factory_not_called"
"""Pydantic's error type for a default that depends on another invalid setting."""
_IN_WORDS = {
    "greater_than": "it must be above {gt}",
    "greater_than_equal": "it must be at least {ge}",
    "less_than_equal": "it must be at most {le}",
    "int_parsing": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "int_type": "it must be a whole number",
    "float_parsing": "it must be a number",
    "float_type": "it must be a number",
    "bool_parsing": "it must be true or false",
    "bool_type": "it must be true or false",
    "literal_error": "it must be {expected}",
}
"""Messages for pydantic's error types; the others keep pydantic's own message."""


def load_settings(flags: Mapping[str, object] | None = None, written: Mapping[str, str] | None = None) -> Settings:
    """Return the effective settings; ``flags`` (from the command line) take precedence over everything else.

    ``written`` maps a setting to its own flag, ``--port`` for example; the others came by ``--set``. Raises
    ``SettingsInvalid`` with one message that names every invalid setting by the source of its value.
    """
    given = {name: f"--set {name}" for name in flags or {}} | dict(written or {})
    try:
        return Settings(**dict(flags or {}))  # type: ignore[arg-type]
    except ValidationError as error:
        problems = [problem for problem in error.errors() if problem["type"] != _A_CONSEQUENCE]
        lines = [f"  {_explain(problem, given)}" for problem in problems]
        raise SettingsInvalid("\n".join(["these settings are wrong:", *lines])) from None
    except OSError as error:
        remedy = "put a file there that this account may read, or remove it; without it the defaults hold"
        raise SettingsInvalid(f"{CONFIG_FILE} cannot be read ({error.strerror}): {remedy}") from None
    except ValueError as error:
        raise SettingsInvalid(f"{CONFIG_FILE} cannot be read: {error}") from None


def suggest_settings(name: str, prefix: str = "") -> str:
    """Return a hint for the unknown setting ``name``: the nearest ones, as variables when ``prefix`` is given."""
    last_word = name.rpartition("_")[2]
    related = [known for known in Settings.model_fields if last_word in known.split("_")]
    very_near, near = (difflib.get_close_matches(name, Settings.model_fields, 1, cutoff) for cutoff in (0.8, 0.6))
    shown = [prefix + known.upper() if prefix else known for known in very_near or related[:2] or near]
    return f"did you mean {' or '.join(shown)}?" if shown else "`codex-server config` lists them"


def _explain(problem: Any, given: Mapping[str, str]) -> str:
    name, *inner = map(str, problem["loc"] or [""])
    if problem["type"] == "extra_forbidden":
        return f"{CONFIG_FILE}, {name}: there is no such setting; {suggest_settings(name)}"
    if not name:
        return str(problem["msg"]).removeprefix("Value error, ")
    return ": ".join([_where(name, given, problem), *inner, _what(name, problem)])


def _where(name: str, given: Mapping[str, str], problem: Any) -> str:
    """Return the flag, variable or file key that the value comes from, with the value unless the message has it."""
    in_message = problem["type"] == "value_error" or name == "api_token" or len(problem["loc"]) > 1
    value = "" if in_message else _shown(name, problem["input"])
    variable = ENV_PREFIX + name.upper()
    if name in given:
        sign = "=" if given[name].startswith("--set ") else " "
        return given[name] + (sign + value if value else "")
    if variable in map(str.upper, os.environ):
        return f"{variable}={value}" if value else variable
    return f"{CONFIG_FILE}, {name}"


def _what(name: str, problem: Any) -> str:
    words = _IN_WORDS.get(problem["type"])
    if words is None:
        return str(problem["msg"]).removeprefix("Value error, ")
    return words.format(**{key: _shown(name, value) for key, value in problem.get("ctx", {}).items()})


def _shown(name: str, value: object) -> str:
    if isinstance(value, int) and is_size(Settings.model_fields[name]):
        return format_size(value).replace(" ", "")
    return f"{value:g}" if isinstance(value, float) else str(value)
