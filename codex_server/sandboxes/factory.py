"""Which backend builds the sandboxes: the one that is requested, or the first that this host allows.

Each is imported when it is chosen: it has needs of its own, and nobody else has them.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from codex_server.errors import StartupError
from codex_server.languages import Languages
from codex_server.sandboxes.base import Backend
from codex_server.settings import Settings


@asynccontextmanager
async def open_backend(settings: Settings, languages: Languages) -> AsyncIterator[Backend]:
    """A started backend, closed afterwards. Raises a ``StartupError`` that names what each one lacks.

    INVARIANT: none is taken below CODEX_MIN_ISOLATION: with ``auto`` another kind of full isolation is looked for.
    """
    backend = await _start(settings, languages)
    try:
        yield backend
    finally:
        await backend.close()


async def _start(settings: Settings, languages: Languages) -> Backend:
    if settings.backend != "auto":
        return await _started(_KINDS[settings.backend], settings, languages)
    try:
        return await _started(_embedded, settings, languages)
    except StartupError as embedded:
        try:
            backend = await _started(_docker, settings, languages)
        except StartupError as docker:
            raise type(embedded)(f"{embedded.detail}\nNor is there another way: {docker.detail}") from docker
        backend.in_place_of = embedded.detail
        return backend


async def _started(kind: Callable[[Settings, Languages], Backend], settings: Settings, known: Languages) -> Backend:
    backend = kind(settings, known)
    await backend.start()
    return backend


def _embedded(settings: Settings, languages: Languages) -> Backend:
    from codex_server.sandboxes.embedded.backend import EmbeddedBackend  # noqa: PLC0415

    return EmbeddedBackend(settings, languages)


def _docker(settings: Settings, languages: Languages) -> Backend:
    from codex_server.sandboxes.docker.backend import DockerBackend  # noqa: PLC0415

    return DockerBackend(settings, languages)


_KINDS = {"embedded": _embedded, "docker": _docker}
