"""compose.yaml as the options of `docker run`: what is tested is the file that people use, not a copy of it."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "compose.yaml"

_ELSEWHERE = frozenset({"build", "image", "restart", "stop_grace_period", "ports", "volumes"})
"""Keys that are no option of a test's container: what is built, what starts it again, which names it takes."""
_ONE = {"mem_limit": "--memory", "memswap_limit": "--memory-swap", "pids_limit": "--pids-limit"}
_MANY = {"cap_drop": "--cap-drop", "security_opt": "--security-opt", "tmpfs": "--tmpfs", "environment": "--env"}
_SWITCHES = {"init": "--init", "read_only": "--read-only"}


def load_service() -> dict[str, Any]:
    """The one service of compose.yaml."""
    (service,) = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"].values()
    found: dict[str, Any] = service
    return found


def run_options(service: dict[str, Any], volume: str) -> list[str]:
    """The options of `docker run`, with a free port of the host for each published one and ``volume`` for the state.

    Raises ``ValueError`` for a key that has no translation here: it would be believed to be tested.
    """
    options: list[str] = []
    for key, value in service.items():
        options += _translated(key, value)
    options += [f"--volume={volume}:{place.partition(':')[2]}" for place in service["volumes"]]
    return options + [f"--publish={_any_port(port)}" for port in service["ports"]]


def _translated(key: str, value: Any) -> list[str]:
    if key in _ELSEWHERE:
        return []
    if key in _ONE:
        return [f"{_ONE[key]}={value}"]
    if key in _MANY:
        return [f"{_MANY[key]}={item}" for item in value]
    if key in _SWITCHES and value is True:
        return [_SWITCHES[key]]
    if key == "logging" and set(value) == {"driver", "options"}:
        settings = [f"--log-opt={name}={setting}" for name, setting in value["options"].items()]
        return [f"--log-driver={value['driver']}", *settings]
    raise ValueError(f"{FILE.name}: {key}: {value!r} has no translation; add one, so that it is tested")


def _any_port(published: str) -> str:
    address, _, inside = published.split(":")
    return f"{address}::{inside}"
