"""The runners' images: their names, what is built into them, and what a look into one shows. All pure.

An image is built from a runner's ``Dockerfile`` with a context of four folders: ``guest`` and ``protocol`` (what runs
inside every sandbox), ``runners`` (the folders of all languages that the image serves) and ``image`` (steps that the
Dockerfiles share).
"""

import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from codex_server import __version__
from codex_server.errors import SandboxUnavailable
from codex_server.interpreters import Interpreter
from codex_server.languages import Language, Languages
from codex_server.packages.package_set import InstalledPackages, Package, guest_folder
from codex_server.sandboxes.environment import GUEST_PACKAGES
from codex_server.sandboxes.protocol import frames
from codex_server.sandboxes.protocol.launch import ImageContents

SANDBOXES = Path(frames.__file__).parent.parent
STEPS = Path(__file__).parent / "image"
RUNNERS = "/opt/runners"
"""Where each image has the runners' folders."""
GUEST_IMPORT_PATH = "/opt/codex"
GUEST_CODE = f"{GUEST_IMPORT_PATH}/sandboxes"
"""Where it has the folders guest and protocol."""
SESSION_RUNNER = "python"
"""The runner in whose image sessions run, for all of their languages."""
PROTOCOL_LABEL = "codex-server.protocol"
LABELS = {PROTOCOL_LABEL: str(frames.VERSION)}
"""What every image is marked with when it is built: the version of the protocol that it speaks."""
_LEFT_OUT = ("__pycache__", "examples", "node_modules")


def image_name(template: str, runner: str) -> str:
    """The image's name and tag: ``template`` with ``{runner}`` and ``{version}`` (the server's) filled in."""
    return template.format(runner=runner, version=__version__)


def runners_with_images(languages: Iterable[Language]) -> list[Language]:
    """The languages that have an image of their own."""
    return [language for language in languages if language.image == language.name]


def build_context(runner: Language, languages: Iterable[Language]) -> io.BytesIO:
    """The tar archive to build ``runner``'s image from: the same bytes for the same files, so that layers are kept."""
    folders = {language.folder for language in languages if language.image == runner.name}
    if runner.name == SESSION_RUNNER:
        folders |= {language.folder for language in languages if language.session}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(runner.folder / "Dockerfile", "Dockerfile", filter=_plain)
        for name in GUEST_PACKAGES:
            tar.add(SANDBOXES / name, name, filter=_plain)
        tar.add(STEPS, "image", filter=_plain)
        for folder in sorted(folders):
            tar.add(folder, f"runners/{folder.name}", filter=_plain)
    archive.seek(0)
    return archive


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Nobody's files, readable by all; no caches, no examples."""
    if Path(entry.name).name in _LEFT_OUT:
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry


def questions(image: str, languages: Iterable[Language]) -> dict[str, tuple[str, ...]]:
    """What to ask in ``image``: for each language that it serves, the program and how it prints its version.

    The image of sessions serves every language that has an interpreter for them, if it has the program.
    """
    asked = [lang for lang in languages if lang.image == image or (image == SESSION_RUNNER and lang.session)]
    return {lang.name: (lang.program, *lang.probe.args) for lang in asked}


def as_found(languages: Iterable[Language], images: Mapping[str, ImageContents]) -> Languages:
    """The languages with the interpreters and packages of their ``images``, which are by runner."""
    return Languages(_as_found(language, images.get(language.image)) for language in languages)


def _as_found(language: Language, contents: ImageContents | None) -> Language:
    bare = replace(language, interpreter=None, version=None, wanted=None, packages=None)
    found = contents.programs.get(language.name) if contents else None
    if contents is None or found is None:
        return bare
    interpreter = Interpreter(language.program, Path(found.path))
    version = language.probe.find(found.answer)
    return replace(bare, interpreter=interpreter, version=version, packages=_packages(interpreter, contents))


def _packages(interpreter: Interpreter, contents: ImageContents) -> InstalledPackages | None:
    """What the image has for programs of ``interpreter``."""
    by_interpreter = {"python": ("pip", contents.pip), "node": ("npm", contents.npm)}
    installer, listed = by_interpreter.get(interpreter.name, ("", ()))
    if not listed:
        return None
    packages = tuple(Package(name, version) for name, version in listed)
    return InstalledPackages(Path(guest_folder(interpreter)), installer, str(interpreter.path), packages, 0)


def command_in_image(language: Language, *, file: str = "") -> tuple[str, ...]:
    """The language's command with paths as they are in its image. Raises ``SandboxUnavailable``."""
    if language.interpreter is None:
        raise SandboxUnavailable(f"{language.title} has no interpreter in its image")
    runner = f"{RUNNERS}/{language.folder.name}"
    return language.render_command(program=str(language.interpreter.path), runner=runner, file=file)


def session_command_in_image(language: Language, program: str) -> tuple[str, ...]:
    """The command of its interpreter in a session, where the image has ``program``."""
    runner = f"{RUNNERS}/{language.folder.name}"
    return replace(language, command=language.session).render_command(program=program, runner=runner, file="")


def shell_command_in_image(bash: Language, program: str) -> tuple[str, ...]:
    """The command of an interactive shell, where the image has ``program``."""
    words = ("{program}", "--noprofile", "--rcfile", "{runner}/shell.bash", "-i")
    return session_command_in_image(replace(bash, session=words), program)
