"""The embedded backend: chooses the strongest isolation that this host allows, keeps zygotes, arms slots."""

import asyncio
import contextlib
import logging
import os
from collections import deque
from functools import partial

from codex_server.errors import IsolationTooWeak, SandboxUnavailable, StartupError
from codex_server.interpreters import Interpreter, find_interpreter
from codex_server.languages import PRELOADED, Language, Languages, Start
from codex_server.model import PIPES, Stdio
from codex_server.sandboxes.arming import Arming
from codex_server.sandboxes.base import Backend, Isolation, IsolationLevel, Sandbox
from codex_server.sandboxes.embedded.cgroup import SlotCgroup
from codex_server.sandboxes.embedded.channel import close_all
from codex_server.sandboxes.embedded.diagnose import explain, read_host_facts
from codex_server.sandboxes.embedded.host_resources import HostResources
from codex_server.sandboxes.embedded.interpreters import SlotInterpreters
from codex_server.sandboxes.embedded.plans import Kind, Plans, SlotPlan
from codex_server.sandboxes.embedded.sandbox import EmbeddedSandbox
from codex_server.sandboxes.embedded.session import EmbeddedSession
from codex_server.sandboxes.embedded.slot import Slot, SlotParts
from codex_server.sandboxes.embedded.workspaces import Workspaces
from codex_server.sandboxes.embedded.zygote_process import LaunchFailed, Zygote
from codex_server.sandboxes.embedded.zygote_supervisor import ZygoteSupervisor
from codex_server.sandboxes.guest import kernel
from codex_server.sandboxes.guest.named_folders import STEP as WORKSPACES_STEP
from codex_server.sandboxes.guest.removal import remove_tree
from codex_server.sandboxes.named_workspaces import PinnedFolders, check_none
from codex_server.sandboxes.protocol.payload import BackendDefaults
from codex_server.sandboxes.session import SessionPlan, SessionSandbox
from codex_server.settings import Settings

_log = logging.getLogger(__name__)

_SPARE_SLOTS = 16
_NO_TERMINAL = (
    "this server runs programs at isolation level `confined`, where they have no devices of their own, so none can "
    "have a terminal; leave `terminal` out, or run the server where it reaches level `namespaces` "
    "(`codex-server doctor` shows what is missing for it)"
)
_SUMMARIES = {
    IsolationLevel.FULL: "user, pid, mount, network, ipc and uts namespaces, a uid per sandbox, seccomp, cgroups",
    IsolationLevel.NAMESPACES: "user, pid, mount, network, ipc and uts namespaces, seccomp; a watchdog bounds memory",
    IsolationLevel.CONFINED: "Landlock, seccomp and rlimits; no namespaces",
}


class EmbeddedBackend(Backend):
    """Builds sandboxes from the kernel's own parts. ``most`` caps the level it takes (for tests of the lower ones)."""

    name = "embedded"

    def __init__(self, settings: Settings, languages: Languages, *, most: IsolationLevel = IsolationLevel.FULL) -> None:
        self._settings = settings
        self._languages = languages
        self._most = most
        self._least = IsolationLevel[settings.min_isolation.upper()]
        places = settings.max_concurrency + settings.max_sessions
        self._slots = places + sum(settings.pool_sizes.values()) + _SPARE_SLOTS
        self._free_numbers = deque(range(self._slots))  # the one that has been free the longest is taken first
        self._arming = Arming()
        self._plain: ZygoteSupervisor | None = None
        self._preloaded: ZygoteSupervisor | None = None
        self._plans: Plans | None = None
        self._isolation: Isolation | None = None
        self._closed = False
        self._defaults = BackendDefaults.of(settings)
        self._pinned = PinnedFolders(settings)
        self._host = HostResources(settings.guest_ids, languages, self._slots)

    async def start(self) -> None:
        """See ``Backend.start``: tries the levels from the strongest down to ``CODEX_MIN_ISOLATION``."""
        if not kernel.supported_machine():
            raise StartupError(f"the embedded backend knows x86_64 and aarch64, not {os.uname().machine}")
        python = find_interpreter("python")
        if python is None or not os.access(python.path, os.X_OK):
            raise StartupError("the Python interpreter that runs this server cannot be found; reinstall the server")
        shortfall: list[str] = []
        try:
            await self._reach_some_level(python, shortfall)
        except BaseException:
            await self.close()
            raise

    async def _reach_some_level(self, python: Interpreter, shortfall: list[str]) -> None:
        if self._most >= IsolationLevel.NAMESPACES and await self._reach_namespaces(python, shortfall):
            return
        if self._least <= IsolationLevel.CONFINED and await self._reach_confined(python, shortfall):
            return
        raise IsolationTooWeak(_refusal(self._least, shortfall))

    async def _reach_namespaces(self, python: Interpreter, shortfall: list[str]) -> bool:
        host = self._host.take_for_namespaces(python, shortfall, cgroups=self._most >= IsolationLevel.FULL)
        level = IsolationLevel.FULL if host.tree and host.ids.per_slot else IsolationLevel.NAMESPACES
        if level < self._least:
            return False
        return await self._prove(level, Plans.for_namespaces(self._settings, self._languages, host), shortfall)

    async def _reach_confined(self, python: Interpreter, shortfall: list[str]) -> bool:
        taken = self._host.take_for_confined(python, shortfall)
        if taken is None:
            return False
        host, home = taken
        self._pinned.open()
        workspaces = Workspaces.for_confined(self._pinned.by_name, host.ids, home)
        plans = Plans.for_confined(self._settings, self._languages, host, home, workspaces)
        return await self._prove(IsolationLevel.CONFINED, plans, shortfall)

    async def _prove(self, level: IsolationLevel, plans: Plans, shortfall: list[str]) -> bool:
        """Launch and arm for real: only what was seen to work is promised."""
        self._plans, self._plain = plans, ZygoteSupervisor(plans.launch)
        try:
            zygote = await self._plain.open()
            await (await self._arm(self._plain, Kind())).destroy()
        except LaunchFailed as failure:
            if failure.step == WORKSPACES_STEP:
                check_none(self._settings, str(failure), "Name a folder that can be used")
            shortfall.append(explain(failure, read_host_facts()))
        except SandboxUnavailable as error:
            shortfall.append(f"{level}: {error}")
        else:
            missing = (*shortfall, *plans.shortfall, *zygote.shortfall)
            self._isolation = Isolation(level, _SUMMARIES[level], missing)
            if plans.preload:
                self._preloaded = ZygoteSupervisor(partial(plans.launch, plans.preload))
            return True
        await self._plain.close()
        self._plain = None
        return False

    async def close(self) -> None:
        """See ``Backend.close``."""
        self._closed = True
        await asyncio.gather(*(supervisor.close() for supervisor in self._supervisors()))
        await self._arming.settle()
        await self._host.close()
        self._pinned.close()

    def _supervisors(self) -> list[ZygoteSupervisor]:
        return [supervisor for supervisor in (self._plain, self._preloaded) if supervisor is not None]

    @property
    def isolation(self) -> Isolation:
        """See ``Backend.isolation``."""
        if self._isolation is None:
            raise StartupError("the backend was not started")
        return self._isolation

    def problem(self) -> str | None:
        """See ``Backend.problem``."""
        problems = (supervisor.problem for supervisor in self._supervisors())
        return next((problem for problem in problems if problem is not None), None)

    def pool_keys(self, language: Language) -> tuple[str, ...]:
        """See ``Backend.pool_keys``."""
        if self._preloaded and language.start is Start.FORK:
            return language.pool, language.pool + PRELOADED
        return (language.pool,)

    def refusal(self, stdio: Stdio) -> str | None:
        """See ``Backend.refusal``."""
        return _NO_TERMINAL if stdio.terminal and self.isolation.level < IsolationLevel.NAMESPACES else None

    async def arm(self, language: Language, pool: str = "", stdio: Stdio = PIPES) -> Sandbox:
        """See ``Backend.arm``."""
        if refusal := self.refusal(stdio):
            raise SandboxUnavailable(refusal)
        supervisor = self._preloaded if pool.endswith(PRELOADED) else self._plain
        if self._closed or supervisor is None:
            raise SandboxUnavailable("the backend is closed")
        return await self._arm(supervisor, Kind(language if language.start is Start.AGENT else None, stdio))

    async def open_session(self, plan: SessionPlan) -> SessionSandbox:
        """See ``Backend.open_session``; its Python has the packages preloaded, where they are there."""
        supervisor = self._preloaded or self._plain
        if self._closed or supervisor is None:
            raise SandboxUnavailable("the backend is closed")
        return await self._arming.finish(self._open_session(supervisor, plan))

    async def _open_session(self, supervisor: ZygoteSupervisor, plan: SessionPlan) -> SessionSandbox:
        if self._plans is None:
            raise SandboxUnavailable("the backend is closed")
        plans, zygote = self._plans, await supervisor.zygote()
        name = plan.workspace.name if plan.workspace else None
        slot, _ = await self._arm_number(zygote, plans, Kind(role="session", workspace=name))
        session = EmbeddedSession(slot, plan, self._defaults, SlotInterpreters(slot, plans.languages, plan.limits))
        try:
            if slot.cgroup:
                slot.cgroup.limit(plan.limits)
            await session.fill()
        except BaseException:
            await session.destroy()
            raise
        return session

    async def _arm(self, supervisor: ZygoteSupervisor, kind: Kind) -> EmbeddedSandbox:
        return await self._arming.finish(self._arm_some_slot(supervisor, kind))

    async def _arm_some_slot(self, supervisor: ZygoteSupervisor, kind: Kind) -> EmbeddedSandbox:
        """Arm a slot that served before, if one stands empty, else a new one: a terminal is made with its slot."""
        if self._plans is None:
            raise SandboxUnavailable("the backend is closed")
        zygote = await supervisor.zygote()
        while kind.stdio.terminal is None and (slot := supervisor.idle.take()):
            try:
                if slot.cgroup:
                    slot.cgroup.limit(self._defaults.ceilings)
                streams = await slot.arm_again(self._plans.slot(slot.number, kind).order)
            except (SandboxUnavailable, OSError) as error:
                _log.debug("a slot is not used again: %s", error)
                await slot.end()
            except BaseException:
                await slot.end()
                raise
            else:
                return EmbeddedSandbox(slot, streams, self._defaults, supervisor.idle.put)
        slot, streams = await self._arm_number(zygote, self._plans, kind)
        # INVARIANT: nobody finds the terminals of another: a slot with them is not used again.
        reused = None if kind.stdio.terminal else supervisor.idle.put
        return EmbeddedSandbox(slot, streams, self._defaults, reused)

    async def _arm_number(self, zygote: Zygote, plans: Plans, kind: Kind) -> tuple[Slot, list[int]]:
        number, folder = await self._take_number(), None
        try:
            plan = await self._plan_slot(plans, number, kind)
            folder = plan.folder
            return await self._arm_slot(zygote, plan)
        except BaseException:
            if folder:
                with contextlib.suppress(OSError):  # what is left goes when the backend is closed
                    remove_tree(str(folder))
            self._free_numbers.append(number)
            raise

    async def _plan_slot(self, plans: Plans, number: int, kind: Kind) -> SlotPlan:
        if self._host.home is None:
            return plans.slot(number, kind)
        try:
            return await asyncio.to_thread(plans.slot, number, kind)  # it makes a folder, on a real disk
        except OSError as error:
            raise SandboxUnavailable(f"a sandbox's folder cannot be made ({error.strerror}); try again") from error

    async def _take_number(self) -> int:
        """A free number; an empty slot of another zygote gives up its own. Raises ``SandboxUnavailable``."""
        for supervisor in self._supervisors():
            while not self._free_numbers and (slot := supervisor.idle.take()):
                await slot.end()
        if not self._free_numbers:
            raise SandboxUnavailable("every sandbox of this server is in use; try again")
        return self._free_numbers.popleft()

    async def _arm_slot(self, zygote: Zygote, plan: SlotPlan) -> tuple[Slot, list[int]]:
        async with contextlib.AsyncExitStack() as undo:
            cgroup, procs = self._make_cgroup(undo)
            try:
                channel, (pidfd, *streams) = await zygote.arm(plan.order, procs)
            finally:
                close_all(procs)
            undo.pop_all()
        if cgroup:
            cgroup.note_new(plan.order.program)
        parts = SlotParts(plan.order.number, channel, pidfd, dict(plan.order.env), cgroup, plan.folder)
        return Slot(parts, self._free_numbers.append), streams

    def _make_cgroup(self, undo: contextlib.AsyncExitStack) -> tuple[SlotCgroup | None, list[int]]:
        if self._host.tree is None:
            return None, []
        try:
            cgroup = self._host.tree.slot()
            undo.push_async_callback(cgroup.remove_soon)
            cgroup.limit(self._defaults.ceilings)
            return cgroup, cgroup.open_procs()
        except OSError as error:
            raise SandboxUnavailable(f"a sandbox's cgroup cannot be made ({error.strerror}); try again") from error


def _refusal(least: IsolationLevel, shortfall: list[str]) -> str:
    lines = [f"this host does not allow isolation level {least} (CODEX_MIN_ISOLATION):"]
    lines += [f"  - {cause}" for cause in shortfall]
    if least > IsolationLevel.CONFINED:
        lower = IsolationLevel(least - 1)
        lines.append(f"Or accept less: CODEX_MIN_ISOLATION={lower} ({_SUMMARIES[lower]}).")
    return "\n".join(lines)
