"""``codex-server openapi``: the API's description, generated from the app."""

import difflib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from codex_server.errors import StartupError

HEADER = "# Generated from the app by `make openapi`; a test compares them.\n"


def openapi(
    as_json: Annotated[bool, typer.Option("--json", help="JSON in place of YAML")] = False,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there")] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write nothing; fail when FILE differs from the app")
    ] = None,
) -> None:
    """Print the API's OpenAPI document, as a server with the default settings has it.

    A running server hands out its own, with its own limits and address, at /openapi.json.
    """
    text = render_document(build_document(), as_json=as_json)
    if check is not None:
        compare_document(check, text)
    elif output is not None:
        output.write_text(text, encoding="utf-8")
    else:
        typer.echo(text, nl=False)


def build_document() -> dict[str, Any]:
    """The document of an app with the default settings, whatever this machine's environment says."""
    from codex_server.app import create_app
    from codex_server.settings import Settings

    return create_app(Settings.model_construct()).openapi()


def render_document(document: dict[str, Any], *, as_json: bool = False) -> str:
    """``document`` as text, its keys in the app's order."""
    import yaml

    if as_json:
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    text: str = yaml.dump(document, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=110)
    return HEADER + text


def compare_document(file: Path, text: str) -> None:
    """Raises ``StartupError`` with the first differing lines when ``file`` does not hold ``text``."""
    held = file.read_text(encoding="utf-8") if file.is_file() else ""
    if held == text:
        return
    lines = difflib.unified_diff(held.splitlines(), text.splitlines(), str(file), "the app", lineterm="", n=1)
    shown = "\n".join(list(lines)[:40])
    raise StartupError(f"{file} is not what the app says; run `make openapi` and commit it\n{shown}")


def _dumper() -> type[Any]:
    """A dumper that writes long texts as blocks and knows no anchors, so that a diff of the file reads well."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Plain YAML, no aliases."""

        def ignore_aliases(self, data: Any) -> bool:
            """Write each value where it is used."""
            return True

    def represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

    Dumper.add_representer(str, represent_text)
    return Dumper
