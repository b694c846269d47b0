"""The languages that the server can run: each folder ``runners/<name>/`` with a ``runner.yaml`` is one.

``load_languages`` reads the folders and finds each interpreter on this machine; ``Languages`` looks one up by name.
"""

import difflib
import os
import re
import subprocess
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from codex_server.errors import LanguageUnavailable, StartupError, UnknownLanguage
from codex_server.files import read_file, stat_file
from codex_server.interpreters import Interpreter, find_interpreter
from codex_server.packages.package_set import InstalledPackages, PackageSet, locate
from codex_server.packages.stock import Stock, read_stock

PACKAGED_RUNNERS = Path(__file__).parent / "runners"
CHECKOUT_RUNNERS = Path(__file__).parent.parent / "runners"
SHARED_POOL = "python"
"""The pool of every language without an agent: its warm interpreter can start any of them."""
PRELOADED = "-data"
"""The suffix of a pool whose sandboxes have imported ``preload`` already."""
_VERSION_PROBE_SECONDS = 60.0
_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9+#.-]{0,31}$")]


class Start(StrEnum):
    """How a runner starts the user's code."""

    FORK = "fork"
    """In the warm interpreter that the sandbox was forked from (Python)."""
    AGENT = "agent"
    """In a program that is started when the sandbox is armed and waits for the code (Node.js)."""
    COMMAND = "command"
    """In a program that is started when the code arrives (bash, perl, ruby, ...)."""


class VersionProbe(BaseModel):
    """The arguments that make an interpreter print its version, and the pattern that finds it in the output."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    args: tuple[str, ...] = ("--version",)
    pattern: str = r"(\d+(?:\.\d+)+)"

    def find(self, output: str) -> str | None:
        """Return the version in ``output``, or None."""
        match = re.search(self.pattern, output)
        return match[1] if match else None


class _PackagesSpec(BaseModel):
    """``packages`` of ``runner.yaml``; paths are relative to the runner's folder. See ``PackageSet``."""

    model_config = ConfigDict(extra="forbid")

    installer: Literal["npm", "pip"]
    manifest: str
    post_install: str | None = None
    parts: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    preload_for: tuple[str, ...] = ()
    preload_not_for: tuple[str, ...] = ()
    imports: dict[str, str] = Field(default_factory=dict)
    instead: dict[str, str] = Field(default_factory=dict)


class _RunnerFile(BaseModel):
    """The shape of ``runner.yaml``; ``docs/runners.md`` explains each key."""

    model_config = ConfigDict(extra="forbid")

    name: _Name
    title: str = Field(min_length=1)
    aliases: tuple[_Name, ...] = ()
    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    program: str = Field(pattern=r"^[A-Za-z0-9_.+-]+$")
    start: Start = Start.COMMAND
    command: tuple[str, ...] = ("{program}", "{file}")
    session: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    pool: _Name | None = None
    version: VersionProbe = Field(default_factory=VersionProbe)
    packages: _PackagesSpec | None = None

    @model_validator(mode="after")
    def _fork_is_of_the_warm_python(self) -> Self:
        if self.start is Start.FORK and self.program != "python":
            raise ValueError(
                "start: fork runs the program in the warm Python; write program: python, or start: command"
            )
        return self

    @model_validator(mode="after")
    def _pip_serves_the_warm_python(self) -> Self:
        if self.packages and self.packages.installer == "pip" and self.start is not Start.FORK:
            raise ValueError("packages: the installer pip needs a runner with start: fork, the warm Python")
        return self


@dataclass(frozen=True, slots=True)
class Language:
    """One runner, with the interpreter that was found for it.

    ``command`` is a template: ``{program}`` is the interpreter, ``{runner}`` the runner's folder and ``{file}`` the
    program's file, each as the guest sees it. ``session`` is such a template for the interpreter that a session keeps,
    where that is a program of its own. ``pool`` names the pool that it shares with related agents.

    ``image`` names the runner whose container image it uses: its own if its folder has a Dockerfile, else that of its
    pool. ``program`` and ``probe`` find its interpreter and its version, on this host or in that image.

    ``wanted`` are the packages of its manifest (None: it has no manifest, or packages are switched off), ``packages``
    the installed ones. A warm interpreter may import ``preload`` in advance, for programs that import a name of
    ``preload_for`` and contain no word of ``preload_not_for``. ``stock`` makes hints about missing packages.
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    file_name: str
    start: Start
    command: tuple[str, ...]
    env: Mapping[str, str]
    pool: str
    folder: Path
    interpreter: Interpreter | None
    version: str | None
    program: str = ""
    probe: VersionProbe = field(default_factory=VersionProbe)
    image: str = ""
    wanted: PackageSet | None = None
    packages: InstalledPackages | None = None
    preload: tuple[str, ...] = ()
    preload_for: frozenset[str] = frozenset()
    preload_not_for: frozenset[str] = frozenset()
    stock: Stock | None = None
    session: tuple[str, ...] = ()

    @property
    def available(self) -> bool:
        """Whether the interpreter is installed and its version is known."""
        return self.interpreter is not None and self.version is not None

    @property
    def has_session(self) -> bool:
        """Whether it has an interpreter that stays between executions: the warm one, or one of its own."""
        return self.start is Start.FORK or bool(self.session)

    def render_command(self, *, program: str, runner: str, file: str) -> tuple[str, ...]:
        """Return the argv with the three placeholders filled in."""
        return tuple(part.format(program=program, runner=runner, file=file) for part in self.command)


class Languages:
    """All known languages, by name and alias."""

    def __init__(self, languages: Iterable[Language]) -> None:
        self._all = tuple(languages)
        self._by_name: dict[str, Language] = {}
        for language in self._all:
            for name in (language.name, *language.aliases):
                if name in self._by_name:
                    files = [str(lang.folder / "runner.yaml") for lang in (self._by_name[name], language)]
                    raise StartupError(
                        f"{' and '.join(files)} both claim the name {name!r}; "
                        "change it in one of them; aliases must be unique too"
                    )
                self._by_name[name] = language

    def __iter__(self) -> Iterator[Language]:
        return iter(self._all)

    def with_own_pools(self, names: Container[str]) -> "Languages":
        """Return a copy in which each language with an agent that ``names`` contains has its own pool."""
        return Languages(
            replace(lang, pool=lang.name) if lang.start is Start.AGENT and lang.name in names else lang for lang in self
        )

    @property
    def pools(self) -> list[str]:
        """Every pool that a backend can keep for these languages, including those that exist only when configured."""
        names = [SHARED_POOL]
        for lang in self:
            own = lang.name if lang.start is Start.AGENT else lang.image
            names += [lang.pool, *([lang.pool + PRELOADED] if lang.preload else []), own or lang.pool]
        return list(dict.fromkeys(names))

    def get(self, name: str) -> Language | None:
        """Return the language with that name or alias (case-insensitive), available or not, or None."""
        return self._by_name.get(name.lower())

    def find(self, name: str) -> Language:
        """Return the available language with that name or alias.

        Raises ``UnknownLanguage``, which lists the available ones, or ``LanguageUnavailable`` without an interpreter.
        """
        language = self.get(name)
        if language is None:
            raise UnknownLanguage(self._unknown(name), pointer="/language")
        if not language.available:
            raise LanguageUnavailable(
                f"{language.title} is known to this server, but its interpreter is not installed on the machine; "
                "`codex-server doctor` shows how to install it, GET /languages lists what is available",
                retry_after=3600,
            )
        return language

    def _unknown(self, name: str) -> str:
        known = ", ".join(language.name for language in self._all if language.available)
        near = difflib.get_close_matches(name.lower(), self._by_name, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"there is no language {name[:40]!r}.{hint} Available: {known}"


def runner_folders(extra: Path | None = None) -> list[Path]:
    """Return every folder with a ``runner.yaml``: the shipped ones, then those in ``extra``.

    Raises ``StartupError`` when ``extra`` is not a folder, or contains no runner.
    """
    shipped = PACKAGED_RUNNERS if PACKAGED_RUNNERS.is_dir() else CHECKOUT_RUNNERS
    return [*_runners_in(shipped), *(_further_runners(extra) if extra else [])]


def _runners_in(root: Path) -> list[Path]:
    """Return the folders in ``root`` with a ``runner.yaml``; unreadable ones are an error, not skipped."""
    try:
        return [place for place in sorted(root.iterdir()) if _is_runner(place)]
    except OSError as error:
        raise StartupError(
            f"{error.filename} cannot be read ({error.strerror}), so a language would be missing; "
            "give this account the right to read it, or remove it"
        ) from error


def _is_runner(place: Path) -> bool:
    try:
        os.lstat(place / "runner.yaml")
    except NotADirectoryError:
        return False
    except FileNotFoundError:
        return place.is_symlink() and not place.exists()  # a dangling link was meant to be a runner
    return True


def _further_runners(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise StartupError(
            f"CODEX_RUNNERS_DIR: {folder} is not a folder, so its languages would be missing; "
            "name the one that holds your runners' folders, or leave the setting out"
        )
    runners = _runners_in(folder)
    if not runners:
        raise StartupError(
            f"CODEX_RUNNERS_DIR: {folder} has no folder with a runner.yaml in it; "
            "name the folder above your runner's, or leave the setting out"
        )
    return runners


def load_languages(extra: Path | None = None, packages: Path | None = None, pools: Iterable[str] = ()) -> Languages:
    """Read every runner and probe its interpreter's version (some tens of milliseconds each: call it at start).

    ``packages`` is the folder of the data packages; without it no language has any. ``pools`` are the names in the
    settings. Raises ``StartupError`` that names the file and key of an invalid ``runner.yaml``, or an unknown pool.
    """
    languages = Languages(_load(folder, packages) for folder in runner_folders(extra))
    for pool in pools:
        if pool not in languages.pools:
            raise StartupError(
                f"CODEX_POOL_SIZES: there is no pool {pool!r}; the pools are {', '.join(languages.pools)}"
            )
    return languages


def _load(folder: Path, packages: Path | None) -> Language:
    spec = _read(folder / "runner.yaml")
    interpreter = find_interpreter(spec.program)
    version = _probe_version(interpreter, spec.version) if interpreter else None
    pool = spec.pool or (spec.name if spec.start is Start.AGENT else SHARED_POOL)
    wanted = None
    if packages and spec.packages and interpreter and version:
        wanted = _package_set(
            spec, spec.packages, folder.resolve(), root=packages, interpreter=interpreter, version=version
        )
    return Language(
        name=spec.name,
        title=spec.title,
        aliases=spec.aliases,
        file_name=spec.file,
        start=spec.start,
        command=spec.command,
        session=spec.session,
        env=spec.env,
        pool=pool,
        folder=folder.resolve(),
        interpreter=interpreter,
        version=version,
        program=spec.program,
        probe=spec.version,
        image=spec.name if _has_file(folder / "Dockerfile") else pool,
        wanted=wanted,
        packages=_installed(wanted) if wanted else None,
        preload=spec.packages.preload if spec.packages else (),
        preload_for=frozenset(spec.packages.preload_for if spec.packages else ()),
        preload_not_for=frozenset(spec.packages.preload_not_for if spec.packages else ()),
        stock=_stock(spec.packages, folder) if spec.packages else None,
    )


def _package_set(
    spec: _RunnerFile, declared: _PackagesSpec, folder: Path, *, root: Path, interpreter: Interpreter, version: str
) -> PackageSet:
    manifest = folder / declared.manifest
    post_install = folder / declared.post_install if declared.post_install else None
    parts = tuple(folder / part for part in declared.parts)
    files = [manifest, *([post_install] if post_install else []), *parts]
    try:
        place = locate(root, installer=declared.installer, interpreter=interpreter, version=version, files=files)
    except OSError as error:
        problem = f"{error.filename} ({error.strerror})"
        raise StartupError(f"{folder / 'runner.yaml'} names a file that cannot be read: {problem}") from error
    return PackageSet(spec.title, declared.installer, interpreter, manifest, post_install, parts, place)


def _installed(wanted: PackageSet) -> InstalledPackages | None:
    try:
        return wanted.installed()
    except OSError as error:
        raise StartupError(
            f"the packages of {wanted.title} cannot be used: {error.filename} cannot be read ({error.strerror}). "
            "Remove what is there, or name another folder with CODEX_PACKAGES_DIR"
        ) from error


def _has_file(file: Path) -> bool:
    try:
        return stat_file(file) is not None
    except OSError as error:
        raise StartupError(f"{file} cannot be read: {error.strerror}") from error


def _stock(declared: _PackagesSpec, folder: Path) -> Stock | None:
    try:
        return read_stock(declared.installer, folder / declared.manifest, declared.imports, declared.instead)
    except OSError:  # _package_set reports it; without packages there are no hints
        return None


def _read(file: Path) -> _RunnerFile:
    try:
        content: Any = yaml.safe_load((read_file(file) or b"").decode("utf-8-sig"))
        return _RunnerFile.model_validate(content)
    except OSError as error:
        raise StartupError(f"{file} cannot be read: {error.strerror}; see docs/runners.md for its shape") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StartupError(f"{file} cannot be read: {error}; see docs/runners.md for its shape") from error
    except ValidationError as error:
        wrong = "; ".join(map(_explain, error.errors()))
        raise StartupError(f"{file} is not a valid runner: {wrong}; see docs/runners.md for its shape") from error


def _explain(problem: Any) -> str:
    *above, key = map(str, problem["loc"] or ["file"])
    if problem["type"] != "extra_forbidden":
        return f"{'.'.join([*above, key])}: {str(problem['msg']).removeprefix('Value error, ')}"
    parts: dict[str, type[BaseModel]] = {"version": VersionProbe, "packages": _PackagesSpec}
    shape = parts.get(above[0], _RunnerFile) if above else _RunnerFile
    near = difflib.get_close_matches(key, shape.model_fields, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(shape.model_fields)}"
    return f"{''.join(f'{part}: ' for part in above)}there is no key {key!r}; {hint}"


def _probe_version(interpreter: Interpreter, probe: VersionProbe) -> str | None:
    try:
        probed = subprocess.run(
            [interpreter.path, *probe.args],
            capture_output=True,
            text=True,
            timeout=_VERSION_PROBE_SECONDS,
            env={"LC_ALL": "C", "PATH": "/usr/local/bin:/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:  # of a busy machine: a server must not be without a language for that
        said = (
            f"did not report its version within {_VERSION_PROBE_SECONDS:g} s; start again once the machine is less busy"
        )
        raise StartupError(f"{interpreter.path} {said}") from None
    except OSError:
        return None
    return probe.find(probed.stdout + probed.stderr)
