"""The worker's confinement: what a process holds after it, whatever it held before."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codex_server.sandboxes.guest import worker

UID = 65_533
GROUPS = (4, 6, 42)
LIMITS = {
    "CORE": (1, 1),
    "NOFILE": (1024, 1024),
    "STACK": (8 * 2**20, 64 * 2**20),
    "MEMLOCK": (2**16, 2**16),
    "MSGQUEUE": (0, 0),
    "NICE": (0, 0),
    "RTPRIO": (0, 0),
    "SIGPENDING": (77, 77),
}
PROGRAM = """
import json, os, resource, signal, struct, sys
from codex_server.sandboxes.guest import kernel, worker
from codex_server.sandboxes.guest.slot_config import SlotConfig
from codex_server.sandboxes.guest.slot_template import Filters, SlotTemplate
from codex_server.sandboxes.protocol.launch import SlotSetup
from codex_server.sandboxes.protocol.slot import SlotOrder
from codex_server.sandboxes.protocol.stdio import StdioOrder

uid, groups, limits = json.loads(sys.argv[1])
if uid:
    os.setgroups(groups)
    kernel.keep_capabilities_across_exec()  # as the zygote does
for name, (soft, _) in limits.items():
    number = getattr(resource, "RLIMIT_" + name)
    resource.setrlimit(number, (soft // 2, resource.getrlimit(number)[1]))
signal.signal(signal.SIGINT, signal.SIG_IGN)

class Boundary:
    def confine_worker(self):
        print("boundary", end=" ")

allow_all = struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)
setup = SlotSetup(False, bool(uid), 0, 2**20, 77, "", None, (), "", "", None, None)
template = SlotTemplate(setup, None, Filters(allow_all, b""))
worker.die_first()
worker.confine(SlotConfig(template, SlotOrder(uid, None, {}, None, 0, StdioOrder(False, None)), Boundary()))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "ids": [*os.getresuid(), *os.getresgid()],
    "groups": os.getgroups(),
    "limits": {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in limits},
    "score": int(open("/proc/self/oom_score_adj").read()),
    "capabilities": [int(status["Cap" + kind], 16) for kind in ("Inh", "Prm", "Eff", "Amb")],
    "no new privileges": int(status["NoNewPrivs"]),
    "filters": int(status["Seccomp"]),
    "own session": os.getsid(0) == os.getpid(),
    "interrupt": signal.getsignal(signal.SIGINT) == signal.SIG_DFL,
}))
"""


@pytest.fixture(scope="module")
def confined() -> dict[str, Any]:
    """What a confined process reports of itself; where this is root, it had groups and has taken a uid."""
    facts = (UID if os.geteuid() == 0 else 0, GROUPS, LIMITS)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(facts)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(worker.__file__).parents[3],
    )
    assert (done.returncode, done.stderr) == (0, "")
    boundary, _, reported = done.stdout.partition(" ")
    assert boundary == "boundary"
    answer: dict[str, Any] = json.loads(reported)
    return answer


@pytest.mark.parametrize("name", LIMITS)
def test_each_fixed_limit_is_set_whatever_was_set_before(confined, name):
    assert tuple(confined["limits"][name]) == LIMITS[name]


def test_no_fixed_limit_is_unknown_here():
    known = {getattr(resource, "RLIMIT_" + name) for name in LIMITS}
    assert known == {*worker._FIXED_LIMITS, resource.RLIMIT_SIGPENDING}


def test_each_of_the_kernels_sixteen_limits_is_set_by_the_worker_or_by_its_init():
    by_init = {resource.RLIMIT_DATA, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC}
    fixed = {*worker._FIXED_LIMITS, resource.RLIMIT_SIGPENDING, *worker._INHERITED_LIMITS}
    assert fixed | by_init == set(range(16))


def test_it_is_the_first_to_die_for_memory(confined):
    assert confined["score"] == 1000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have groups and take another uid")
def test_it_has_its_own_ids_and_none_of_the_groups_that_it_was_started_with(confined):
    assert (confined["ids"], confined["groups"]) == ([UID] * 6, [])


def test_it_holds_no_capability_gains_none_and_is_filtered(confined):
    assert confined["capabilities"] == [0] * 4
    assert (confined["no new privileges"], confined["filters"]) == (1, 2)


def test_it_has_a_session_of_its_own_and_the_usual_signals(confined):
    assert confined["own session"]
    assert confined["interrupt"]


@pytest.mark.parametrize(
    ("one", "other", "tighter"), [(5, 7, 5), (7, 5, 5), (-1, 5, 5), (5, -1, 5), (-1, -1, -1), (0, -1, 0), (0, 5, 0)]
)
def test_a_limit_is_never_looser_than_the_servers_own(one, other, tighter):
    assert worker._lower(one, other) == tighter
