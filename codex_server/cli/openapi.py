"""``codex-server openapi``: the API's OpenAPI document, generated from the app."""

import difflib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from codex_server.errors import StartupError


def openapi(
    as_json: Annotated[bool, typer.Option("--json", help="JSON in place of YAML")] = False,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there")] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write nothing; fail when FILE differs from the app")
    ] = None,
    actions: Annotated[
        bool, typer.Option("--actions", help="The document for a ChatGPT action with the effective settings; JSON")
    ] = False,
) -> None:
    """Print the API's OpenAPI document for a server with the default settings.

    A running server has its own, with its limits and address, at /openapi.json; and the one for ChatGPT, with the
    address in CODEX_PUBLIC_URL, at /actions/openapi.json.
    """
    text = render_actions_document() if actions else render_document(as_json=as_json)
    if check is not None:
        compare_document(check, text)
    elif output is not None:
        write_document(output, text)
    else:
        typer.echo(text, nl=False)


def render_document(*, as_json: bool = False) -> str:
    """Return the document as text, independent of this machine's environment."""
    import yaml

    from codex_server.api.application import build_api
    from codex_server.observe.metrics import Metrics
    from codex_server.settings import Settings

    # `model_construct` takes the defaults and reads neither the environment nor codex.toml.
    document = build_api(Settings.model_construct(), Metrics()).openapi()
    if as_json:
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def render_actions_document() -> str:
    """Return the document for ChatGPT as JSON; print a warning when the public address is not known."""
    from codex_server.api.actions_document import build_actions_document
    from codex_server.settings import load_settings

    settings = load_settings()
    address = settings.public_url
    if address is None or not address.startswith("https://"):
        known = f"CODEX_PUBLIC_URL is {address}" if address else "CODEX_PUBLIC_URL is not set"
        warning = "codex-server: {}, so the document names a placeholder for the server's address: {}"
        remedy = "set it to the https address that ChatGPT is to call, such as https://code.example.org"
        print(warning.format(known, remedy), file=sys.stderr)
        address = None
    return json.dumps(build_actions_document(settings, address), indent=2, ensure_ascii=False) + "\n"


def write_document(file: Path, text: str) -> None:
    """Write ``text`` into ``file``. Raises ``StartupError``."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StartupError(f"{file} cannot be written ({error.strerror}); name another file with --output") from error


def compare_document(file: Path, text: str) -> None:
    """Raise ``StartupError`` with the first differing lines when the content of ``file`` is not ``text``."""
    try:
        held = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise StartupError(
            f"{file} cannot be read ({error.strerror}); name another file with --check, or write this one: "
            f"`codex-server openapi --output {file}`"
        ) from error
    if held == text:
        return
    lines = difflib.unified_diff(held.splitlines(), text.splitlines(), str(file), "the app", lineterm="", n=1)
    shown = "\n".join(list(lines)[:40])
    raise StartupError(f"{file} differs from the app's document; run `make openapi` and commit it\n{shown}")
