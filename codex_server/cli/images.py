"""``codex-server runners build``: the container images of the docker backend's sandboxes."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from codex_server.cli.flags import SetFlags, gather_flags, settings_from_flags
from codex_server.errors import ImageNotBuilt, UnknownLanguage

if TYPE_CHECKING:
    from codex_server.languages import Language, Languages
    from codex_server.sandboxes.docker.engine import Engine
    from codex_server.settings import Settings


def build(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="LANGUAGE", help="By default every runner that has a Dockerfile")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Base image, instead of the one in the Dockerfile"),
    ] = None,
    no_data: Annotated[
        bool, typer.Option("--no-data", help="Without numpy, lodash and the other packages that programs may import")
    ] = False,
    network: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Network for the build's own downloads, such as host"),
    ] = None,
    assignments: SetFlags = None,
) -> None:
    """Build the container images of the docker backend, on the engine that DOCKER_HOST names.

    A failed build changes nothing; the exit code is then 1. Images of an earlier version stay until you remove them.
    """
    from codex_server.languages import load_languages
    from codex_server.sandboxes.docker.engine import Engine
    from codex_server.sandboxes.docker.images import runners_with_images

    settings = settings_from_flags(gather_flags(assignments))
    languages = load_languages(settings.runners_dir)
    engine = Engine(settings.docker_host)
    arguments = {"PACKAGES": "no" if no_data else "yes"} | ({"BASE": base} if base else {})
    chosen = [_runner(languages, name) for name in names or ()] or runners_with_images(languages)
    try:
        for runner in dict.fromkeys(lang.name for lang in chosen):
            _build(engine, settings, languages, runner, arguments, network)
    finally:
        engine.close()


def _build(
    engine: "Engine", settings: "Settings", languages: "Languages", runner: str, arguments: dict[str, str],
    network: str | None,
) -> None:  # fmt: skip
    from codex_server.sandboxes.docker.engine import EngineError
    from codex_server.sandboxes.docker.images import LABELS, build_context, image_name

    language = next(language for language in languages if language.name == runner)
    name = image_name(settings.docker_image, runner)
    print(f"Building {name} from {language.folder / 'Dockerfile'}", flush=True)
    begun = time.monotonic()
    try:
        context = build_context(language, languages)
        for line in engine.build(context, name, arguments=arguments, labels=LABELS, network=network):
            if line.strip():
                print(f"  {line.rstrip()}", flush=True)
    except FileNotFoundError as error:
        raise ImageNotBuilt(
            f"the image {name} was not built: {error.filename} is missing; see docs/docker.md for what it needs"
        ) from error
    except EngineError as error:
        raise ImageNotBuilt(f"the image {name} was not built: {error}") from error
    print(f"Built {name} in {time.monotonic() - begun:.0f} s", flush=True)


def _runner(languages: "Languages", name: str) -> "Language":
    """Return the runner whose image the language ``name`` uses."""
    language = languages.get(name)
    if language is None:
        raise UnknownLanguage(f"there is no runner {name!r}; `codex-server languages` lists them")
    return next(runner for runner in languages if runner.name == language.image)
