"""``codex-server runners``: lists and installs the packages that programs may import."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codex_server.cli.command import as_called_here
from codex_server.cli.flags import SetFlags, StateDirFlag, gather_flags, settings_from_flags
from codex_server.cli.table import render_table
from codex_server.errors import UnknownLanguage
from codex_server.units import format_size

if TYPE_CHECKING:
    from pathlib import Path

    from codex_server.languages import Language, Languages
    from codex_server.packages.package_set import PackageSet
    from codex_server.settings import Settings


def list_runners(
    assignments: SetFlags = None,
    state_dir: StateDirFlag = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, with every package")] = False,
) -> None:
    """List each runner and the packages that its programs may import: installed or not, folder, size."""
    settings = settings_from_flags(gather_flags(assignments, state_dir=state_dir))
    found = load(settings)
    if as_json:
        typer.echo(json.dumps({"runners": [describe_runner(language) for language in found]}, indent=2))
        return
    header = ("runner", "packages", "size", "where")
    typer.echo(render_table(header, [_row(language, switched_on=settings.data_packages) for language in found]))
    if missing_sets(found):
        typer.echo(as_called_here("\n`codex-server runners install` installs what is missing."))


def describe_runner(language: "Language") -> dict[str, Any]:
    """Return a runner as ``--json`` shows it; ``packages`` is null when it has none or they are switched off."""
    installed = language.packages
    packages = None
    if language.wanted:
        packages = {
            "installed": installed is not None,
            "folder": str(language.wanted.folder),
            "manifest": str(language.wanted.manifest),
            "size": installed.size if installed else None,
            "contents": [{"name": p.name, "version": p.version} for p in installed.packages] if installed else [],
        }
    return {"name": language.name, "version": language.version, "packages": packages}


def _row(language: "Language", *, switched_on: bool) -> tuple[str, str, str, str]:
    if language.packages:
        installed = language.packages
        return language.name, str(len(installed.packages)), format_size(installed.size), str(installed.folder)
    if language.wanted:
        return language.name, "not installed", "-", "-"
    return language.name, "none" if switched_on else "switched off", "-", "-"


def install(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="LANGUAGE", help="By default all that have packages")
    ] = None,
    assignments: SetFlags = None,
    state_dir: StateDirFlag = None,
) -> None:
    """Install the packages that a language's runner names, into a separate environment below the state folder.

    Needs the registries that pip and npm are set up for. Installed packages are not touched; a failure leaves no
    partial installation, and the exit code is then 1.
    """
    settings = settings_from_flags(gather_flags(assignments, state_dir=state_dir, data_packages=True))
    languages = load(settings)
    chosen = [_find(languages, name) for name in names or ()] or list(languages)
    for language in chosen:
        if language.packages:
            typer.echo(f"{language.title}: {len(language.packages.packages)} packages are installed already")
        elif names and not language.wanted:
            typer.echo(f"{language.title}: its runner names no packages")
    for wanted in missing_sets(chosen):
        install_visibly(wanted)


def load(settings: "Settings") -> "Languages":
    """Load the languages, with their data packages unless these are switched off."""
    from codex_server.languages import load_languages

    return load_languages(settings.runners_dir, settings.packages_root, settings.pool_sizes)


def missing_sets(languages: "Iterable[Language]") -> "list[PackageSet]":
    """Return the package sets that are not installed, each once when languages share it."""
    missing: dict[Path, PackageSet] = {}
    for language in languages:
        if language.wanted and not language.packages:
            missing.setdefault(language.wanted.folder, language.wanted)
    return list(missing.values())


def install_visibly(wanted: "PackageSet") -> None:
    """Install and show the progress. Raises ``InstallationFailed``."""
    from codex_server.packages.installation import install_packages
    from codex_server.packages.progress import Progress

    begin = f"Installing the packages of {wanted.title} into {wanted.folder} (once; this takes some minutes)"
    with Progress(begin, f"Packages of {wanted.title}") as progress:
        installed = install_packages(wanted, progress)
        progress.done(f"{len(installed.packages)} installed, {format_size(installed.size)}")


def _find(languages: "Languages", name: str) -> "Language":
    language = languages.get(name)
    if language is None:
        raise UnknownLanguage(f"there is no runner {name!r}; `codex-server runners list` lists them")
    return language
