"""What the embedded backend takes of its host: cgroups, ids for guests, and a folder at level ``confined``."""

import asyncio
import contextlib
import socket
import tempfile
from pathlib import Path

from codex_server.interpreters import Interpreter
from codex_server.languages import Languages
from codex_server.sandboxes.embedded.cgroup import CgroupsUnavailable, CgroupTree, open_tree
from codex_server.sandboxes.embedded.diagnose import closed_to_others
from codex_server.sandboxes.embedded.environments import make_empty_environment
from codex_server.sandboxes.embedded.guestids import choose_guest_ids, claim_host_ids, owner_of_namespaces
from codex_server.sandboxes.embedded.plans import HostParts, empty_environment
from codex_server.sandboxes.guest.removal import remove_tree


class HostResources:
    """Takes what one level after the other needs; ``close`` gives all of it back. ``guest_ids`` is the setting."""

    def __init__(self, guest_ids: str, languages: Languages, slots: int) -> None:
        self._guest_ids = guest_ids
        self._languages = languages
        self._slots = slots
        self._claimed_ids: socket.socket | None = None
        self.tree: CgroupTree | None = None
        self.home: Path | None = None

    def take_for_namespaces(self, python: Interpreter, shortfall: list[str], *, cgroups: bool) -> HostParts:
        """What the host gives to levels ``full`` and ``namespaces``; what it does not is added to ``shortfall``."""
        ids = choose_guest_ids(self._guest_ids, self._slots)
        self.tree = self._open_cgroups(shortfall, wanted=cgroups)
        if not ids.per_slot:
            shortfall.append(
                "all sandboxes share one uid with the server: run the server as root, or install newuidmap (package "
                "uidmap) and give its account a range in /etc/subuid and /etc/subgid"
            )
        return HostParts(python, ids, self.tree, self._slots, owner_of_namespaces(ids))

    def _open_cgroups(self, shortfall: list[str], *, wanted: bool) -> CgroupTree | None:
        if not wanted:
            shortfall.append("cgroups are switched off for this backend")
            return None
        try:
            return open_tree()
        except CgroupsUnavailable as error:
            shortfall.append(str(error))
            return None

    def take_for_confined(self, python: Interpreter, shortfall: list[str]) -> tuple[HostParts, Path] | None:
        """The same for level ``confined``, and the folder of its slots; None where guests could see nothing."""
        if self.tree:
            self.tree.close()
            self.tree = None
        ids, self._claimed_ids = claim_host_ids(self._guest_ids, self._slots)
        if ids.per_slot and (closed := closed_to_others(self._needed_folders(python))):
            shortfall.append(
                f"confined: {closed} can be entered by its owner alone, and here each guest has a uid of its own and "
                "sees the host's folders: install Python and this server where every account may read, as in /usr"
            )
            return None
        self.home = Path(tempfile.mkdtemp(prefix="codex-sandboxes-"))
        self.home.chmod(0o711)
        make_empty_environment(empty_environment(self.home), python.path)
        return HostParts(python, ids, None, self._slots, ids.uid_map[1] if ids.per_slot else None), self.home

    def _needed_folders(self, python: Interpreter) -> list[Path]:
        roots = [lang.interpreter.root for lang in self._languages if lang.interpreter and lang.interpreter.root]
        return [python.path.parent, *roots, *(language.folder for language in self._languages)]

    async def close(self) -> None:
        """Give it back; safe to call twice. Every slot has ended before."""
        if self.tree:
            await asyncio.to_thread(self.tree.close)
            self.tree = None
        if self._claimed_ids:
            self._claimed_ids.close()
        if self.home:
            with contextlib.suppress(OSError):
                remove_tree(str(empty_environment(self.home)))
                self.home.rmdir()
            self.home = None
