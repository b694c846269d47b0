"""``python -m codex_server.api openapi > openapi.yaml`` and ``... problems > docs/problems.md``: what is generated."""

import sys

import yaml

from codex_server.api.door import build_door
from codex_server.api.guide import as_markdown
from codex_server.observe.metrics import Metrics
from codex_server.settings import Settings


def document_as_yaml() -> str:
    """The OpenAPI document as the file in the repository has it, whatever the environment says."""
    # `model_construct` takes the defaults and reads neither the environment nor codex.toml.
    app = build_door(Settings.model_construct(), Metrics())
    return yaml.safe_dump(app.openapi(), sort_keys=False, allow_unicode=True, width=120)


WRITERS = {"openapi": document_as_yaml, "problems": as_markdown}


def main(arguments: list[str]) -> int:
    """Write the text that the one argument names to standard output."""
    if len(arguments) != 1 or arguments[0] not in WRITERS:
        sys.stderr.write(f"usage: python -m codex_server.api {'|'.join(WRITERS)}\n")
        return 2
    sys.stdout.write(WRITERS[arguments[0]]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
