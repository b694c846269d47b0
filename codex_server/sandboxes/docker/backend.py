"""The docker backend: looks at the engine and the runners' images, arms containers, removes every one of them."""

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import TypeVar

from codex_server.errors import IsolationTooWeak, SandboxUnavailable, StartupError
from codex_server.languages import PRELOADED, Language, Languages, Start
from codex_server.limits import MOST_PENDING_SIGNALS
from codex_server.model import PIPES, Stdio
from codex_server.sandboxes.arming import Arming
from codex_server.sandboxes.base import Backend, Isolation, IsolationLevel, Sandbox
from codex_server.sandboxes.docker.attachment import Attachment
from codex_server.sandboxes.docker.container import OWN_MEMORY_BYTES, OWN_MEMORY_BYTES_PRELOADED, TASKS_OF_INIT
from codex_server.sandboxes.docker.engine import Engine, EngineError, EngineFacts, EngineRefused, NoSuchImage
from codex_server.sandboxes.docker.images import (
    GUEST_CODE,
    GUEST_IMPORT_PATH,
    PROTOCOL_LABEL,
    RUNNERS,
    SESSION_RUNNER,
    as_found,
    command_in_image,
    image_name,
    questions,
    runners_with_images,
)
from codex_server.sandboxes.docker.ownership import Ownership
from codex_server.sandboxes.docker.sandbox import Container, DockerSandbox
from codex_server.sandboxes.docker.session import ContainerInterpreters, DockerSession
from codex_server.sandboxes.docker.starter import ContainerStarter, removed_on_failure
from codex_server.sandboxes.docker.sweeper import Sweeper
from codex_server.sandboxes.docker.workspaces import expected_in, mount_of, refusal_of
from codex_server.sandboxes.environment import ABSENT, guest_environment, packages_environment
from codex_server.sandboxes.named_workspaces import PinnedFolder, PinnedFolders
from codex_server.sandboxes.protocol import frames
from codex_server.sandboxes.protocol.codec import decode, encode
from codex_server.sandboxes.protocol.launch import ContainerLaunch, ImageContents, ImageProbe, SlotSetup
from codex_server.sandboxes.protocol.payload import BackendDefaults, stdio_order
from codex_server.sandboxes.protocol.report import failure_in
from codex_server.sandboxes.protocol.slot import SlotReady
from codex_server.sandboxes.seccomp.compiler import compile_filter
from codex_server.sandboxes.seccomp.policy import NAMESPACES_SHARED_UID
from codex_server.sandboxes.seccomp.sessions import SESSION
from codex_server.sandboxes.seccomp.workspaces import NAMED_WORKSPACE
from codex_server.sandboxes.session import SessionPlan, SessionSandbox
from codex_server.settings import Settings

M = TypeVar("M")
_log = logging.getLogger(__name__)

_SPARE = 16
_MADE_AT_ONCE = 4
"""Measured: an engine on two processors makes 11 containers a second two at a time, 13 four at a time."""
_READY_SECONDS = 30.0
_UNBOUND = 2**22
"""More processes than a kernel has: the limit by uid counts the owner's own on the host, so the container's holds."""
_SUMMARY = "a container of its own for each sandbox: namespaces, a uid, seccomp, no capability, cgroups"


class DockerBackend(Backend):
    """Builds sandboxes as containers of an engine."""

    name = "docker"

    def __init__(self, settings: Settings, languages: Languages) -> None:
        self._settings = settings
        self._languages = languages
        self._engine = Engine(settings.docker_host)
        self._ownership = Ownership(settings.state_dir)
        self._sweeper = Sweeper(self._engine, self._ownership)
        self._images: dict[str, str] = {}  # their names, by runner
        self._contents: dict[str, ImageContents] = {}  # what is in each
        self._shortfall: list[str] = []
        self._filters = "", ""  # of every guest, and one more of those in a session
        self._filter_of_workspaces = ""
        self._workspaces = PinnedFolders(settings)
        self._started = self._closed = False
        self._making = asyncio.Semaphore(_MADE_AT_ONCE)
        self._arming = Arming()
        self._defaults = BackendDefaults.of(settings)
        places = settings.max_concurrency + sum(settings.pool_sizes.values()) + settings.max_sessions + _SPARE
        self._starter = ContainerStarter(settings, self._engine, self._sweeper, self._ownership, places)

    async def start(self) -> None:
        """See ``Backend.start``. Each image is started and probed: only what was seen to work is promised."""
        with contextlib.ExitStack() as undo:
            undo.enter_context(self._ownership)
            undo.callback(self._engine.close)
            undo.callback(self._workspaces.close)
            try:
                self._workspaces.open()
                await self._look_at_engine()
                await self._sweep()
                await self._look_into_images()
                await self._prove_workspaces()
            except EngineError as error:
                raise StartupError(f"the docker backend cannot start: {error}") from error
            undo.pop_all()
        self._sweeper.start()
        self._started = True

    async def _sweep(self) -> None:
        try:
            await self._sweeper.sweep()
        except EngineRefused as error:  # one container that the engine keeps must not keep the server from starting
            _log.warning("a container of a server that ended is left for the next sweep: %s", error)

    async def _look_at_engine(self) -> None:
        facts = await self._engine.connect()
        every, session = (compile_filter(policy, facts.machine).hex() for policy in (NAMESPACES_SHARED_UID, SESSION))
        self._filters = every, session
        self._filter_of_workspaces = compile_filter(NAMED_WORKSPACE, facts.machine).hex()
        runtime = self._settings.docker_runtime
        if runtime and runtime not in facts.runtimes:
            known = ", ".join(sorted(facts.runtimes))
            raise StartupError(
                f"the Docker engine has no runtime {runtime!r} (CODEX_DOCKER_RUNTIME); it has {known}. Install it "
                "there, or unset the setting"
            )
        self._look_at_limits(facts)

    def _look_at_limits(self, facts: EngineFacts) -> None:
        """INVARIANT: what the engine would drop from a container with a mere warning is not promised."""
        if missing := sorted(facts.cannot_limit - {"swap"}):
            raise IsolationTooWeak(
                f"the Docker engine at {self._engine.host} cannot limit {' and '.join(missing)}, so one program could "
                "take the whole host; give it the cgroup controllers (rootless: delegate them to its user; Raspberry "
                "Pi: cgroup_enable=memory on the kernel's command line)"
            )
        if facts.cannot_limit:
            self._shortfall.append(
                "the engine cannot limit swap, so programs may fill the host's; start the kernel with swapaccount=1, "
                "or switch swap off"
            )

    async def _look_into_images(self) -> None:
        """All at once; an image that is missing leaves its languages out, and says how to build it."""
        runners = runners_with_images(self._languages)
        looks = (self._look_into(runner.name) for runner in runners)
        found = await asyncio.gather(*looks, return_exceptions=True)  # each has removed its container by then
        for error in found:
            if isinstance(error, BaseException):
                raise error
        if not any(found):
            reasons = "".join(f"\n- {reason}" for reason in self._shortfall)
            raise StartupError(
                f"the Docker engine at {self._engine.host} has none of the runners' images; "
                f"`codex-server runners build` builds them:{reasons}"
            )

    async def _look_into(self, runner: str) -> bool:
        name = image_name(self._settings.docker_image, runner)
        try:
            image = await self._engine.image(name)
        except NoSuchImage:
            self._leave_out(runner, f"the image {name} is missing: `codex-server runners build {runner}` builds it")
            return False
        if image.labels.get(PROTOCOL_LABEL) != str(frames.VERSION):
            self._leave_out(
                runner, f"the image {name} is another version's: `codex-server runners build {runner}` builds it anew"
            )
            return False
        if image.volumes:
            self._leave_out(
                runner,
                f"the image {name} has volumes ({', '.join(image.volumes)}), through which programs could fill the "
                "engine's disk: build it from a base without them",
            )
            return False
        self._images[runner] = name
        try:
            self._contents[runner] = await self._look_inside(runner)
        except SandboxUnavailable as error:
            raise StartupError(f"the image {name} does not work: {error}") from error
        return True

    async def _prove_workspaces(self) -> None:
        """Start a container with each of the operator's folders: not every engine can give them to a session."""
        python = self._languages.get(SESSION_RUNNER)
        for folder in self._workspaces.by_name.values():
            try:
                if python is None or SESSION_RUNNER not in self._images:
                    raise SandboxUnavailable("sessions run in the image of Python, which is missing")
                container = await self._start_session(python, self._settings.ceilings.processes, folder)
                container.attachment.close()
                await container.remove()
            except SandboxUnavailable as error:
                raise refusal_of(folder, error.detail) from error

    def _leave_out(self, runner: str, reason: str) -> None:
        _log.warning("%s is left out: %s", runner, reason)
        self._shortfall.append(f"{runner} is left out: {reason}")

    async def _look_inside(self, runner: str) -> ImageContents:
        probe = ImageProbe(questions(runner, self._languages))
        container = await self._starter.start(self._images[runner], frames.Kind.PROBE, encode(probe))
        try:
            return await _receive_ready(container.attachment, ImageContents)
        finally:
            container.attachment.close()
            await container.remove()

    async def survey(self, languages: Languages) -> Languages:
        """See ``Backend.survey``: the interpreters are those in the images."""
        self._languages = as_found(languages, self._contents)
        return self._languages

    async def close(self) -> None:
        """See ``Backend.close``."""
        self._closed = True
        if not self._started:
            return
        await self._arming.settle()
        await self._sweeper.close()
        self._engine.close()
        self._workspaces.close()
        self._ownership.close()

    @property
    def isolation(self) -> Isolation:
        """See ``Backend.isolation``."""
        if not self._started:
            raise StartupError("the backend was not started")
        runtime = f", runtime {self._settings.docker_runtime}" if self._settings.docker_runtime else ""
        return Isolation(IsolationLevel.FULL, _SUMMARY + runtime, tuple(self._shortfall))

    def problem(self) -> str | None:
        """See ``Backend.problem``: what came of the last container, unless none was needed for a while since."""
        return self._starter.trouble

    def pool_keys(self, language: Language) -> tuple[str, ...]:
        """See ``Backend.pool_keys``: those that an agent can serve together share one, else each image has its own."""
        pool = language.pool if language.start is Start.AGENT else language.image
        if language.start is Start.FORK and language.preload and self._has_data_packages(language.image):
            return pool, pool + PRELOADED
        return (pool,)

    async def open_session(self, plan: SessionPlan) -> SessionSandbox:
        """See ``Backend.open_session``: a container that is kept, of Python's image for all languages."""
        if self._closed or not self._started:
            raise SandboxUnavailable("the backend is closed")
        python = self._languages.get(SESSION_RUNNER)
        if python is None or SESSION_RUNNER not in self._images:
            raise SandboxUnavailable(
                "sessions run in the image of Python, which is missing; `codex-server runners build python` builds it"
            )
        async with self._making:
            return await self._arming.finish(self._open_session(plan, python))

    async def _open_session(self, plan: SessionPlan, python: Language) -> DockerSession:
        folder = self._workspaces.by_name[plan.workspace.name] if plan.workspace else None
        container = await self._start_session(python, plan.limits.processes, folder)
        async with removed_on_failure(container):
            await self._limit(container, plan)
        programs = self._contents[SESSION_RUNNER].programs
        orders = ContainerInterpreters(self._languages, programs, self._environment(python), plan.limits)
        session = DockerSession(self._engine, container, plan, self._defaults, orders)
        try:
            await session.fill()
        except BaseException:
            await session.destroy()
            raise
        return session

    async def _start_session(self, python: Language, processes: int, folder: PinnedFolder | None) -> Container:
        """A container whose init is ready for interpreters. ``folder``: None for a workspace in memory."""
        setup = _setup(self._settings, python, self._filters, preload=False)
        launch = ContainerLaunch(setup, None, self._environment(python), stdio_order(PIPES), session=True)
        mount = None
        if folder:
            mount, workspace = mount_of(folder, processes), expected_in(folder)
            setup = replace(setup, process_margin=_UNBOUND, seccomp_of_workspaces=self._filter_of_workspaces)
            launch = replace(launch, setup=setup, workspace=workspace)
        image = self._images[SESSION_RUNNER]
        container = await self._starter.start(image, frames.Kind.LAUNCH, encode(launch), workspace=mount)
        async with removed_on_failure(container):
            await _receive_ready(container.attachment, SlotReady)
        return container

    async def arm(self, language: Language, pool: str = "", stdio: Stdio = PIPES) -> Sandbox:
        """See ``Backend.arm``."""
        if self._closed or not self._started:
            raise SandboxUnavailable("the backend is closed")
        if language.image not in self._images:
            raise SandboxUnavailable(f"{language.title} has no image; `codex-server runners build` builds it")
        async with self._making:
            return await self._arming.finish(self._arm(language, stdio, preload=pool.endswith(PRELOADED)))

    async def _arm(self, language: Language, stdio: Stdio, *, preload: bool) -> DockerSandbox:
        environment = self._environment(language)
        agent = command_in_image(language) if language.start is Start.AGENT else None
        setup = _setup(self._settings, language, self._filters, preload=preload)
        launch = ContainerLaunch(setup, agent, environment, stdio_order(stdio))
        own = OWN_MEMORY_BYTES_PRELOADED if preload else OWN_MEMORY_BYTES
        container = await self._starter.start(self._images[language.image], frames.Kind.LAUNCH, encode(launch), own)
        async with removed_on_failure(container):
            await _receive_ready(container.attachment, SlotReady)
        return DockerSandbox(self._engine, container, environment, self._defaults)

    async def _limit(self, container: Container, plan: SessionPlan) -> None:
        """The kernel bounds the memory of all processes of a session together."""
        memory_bytes = plan.limits.memory_bytes + container.own_memory_bytes
        try:
            await self._engine.limit(container.id, memory_bytes=memory_bytes)
        except EngineError as error:
            raise SandboxUnavailable(f"the session's memory cannot be limited: {error}; try again") from error

    def _has_data_packages(self, runner: str) -> bool:
        """Whether its image has packages that Python programs can import, as a look into it has shown."""
        return runner in self._contents and bool(self._contents[runner].pip)

    def _environment(self, language: Language) -> dict[str, str]:
        folders = [f"{GUEST_CODE}/{ABSENT}"]
        folders += [str(language.interpreter.path.parent)] if language.interpreter else []
        needed = packages_environment(self._settings) if self._has_data_packages(language.image) else {}
        return guest_environment(folders) | needed


def _setup(settings: Settings, language: Language, filters: tuple[str, str], *, preload: bool) -> SlotSetup:
    """What PID 1 serves ``language`` by; ``filters`` are the guests' own, and one more of those in a session."""
    warm = language.start is Start.FORK
    return SlotSetup(
        cgroups=True,
        uid_per_slot=False,
        process_margin=TASKS_OF_INIT,
        workspace_bytes=settings.max_workspace,
        pending_signals=MOST_PENDING_SIGNALS,
        import_path=GUEST_IMPORT_PATH,
        agent=f"{RUNNERS}/{language.folder.name}/agent.py" if warm else None,
        preload=tuple(language.preload) if preload else (),
        seccomp=filters[0],
        seccomp_of_sessions=filters[1],
        namespaces=None,  # init's own: the engine has made them
        landlock=None,
    )


async def _receive_ready(attachment: Attachment, message: type[M]) -> M:
    """The ``message`` of the READY frame. Raises ``SandboxUnavailable`` with what PID 1 reported instead."""
    try:
        async with asyncio.timeout(_READY_SECONDS):
            kind, body, _ = await attachment.receive()
        if kind is frames.Kind.READY:
            return decode(message, body)
        reason = failure_in(kind, body)
    except TimeoutError:
        raise SandboxUnavailable(f"a container was not ready within {_READY_SECONDS:g} s") from None
    except (frames.Closed, frames.BadFrame) as error:
        last = attachment.errors.splitlines()[-1:] or [str(error) or "without a word"]
        raise SandboxUnavailable(f"a container ended before it was ready: {last[0]}") from error
    raise SandboxUnavailable(f"a container could not be armed: {reason}")
