"""The docker backend under gVisor: another kernel between the program and the host's, and the same promises.

It needs an engine that knows the runtime ``runsc`` (``.ci/engine`` starts one where the distribution has it).
"""

import os
from collections.abc import Iterator

import pytest

from codex_server.errors import StartupError
from codex_server.model import Status
from tests.escape.conftest import CONTAINER, Harnesses
from tests.escape.sandbox_harness import SandboxHarness
from tests.levels import out_of_reach

pytestmark = pytest.mark.tier("change")

PROGRAMS = {
    "python": "import sys; print(6 * 7); sys.exit(3)",
    "javascript": "console.log(6 * 7); process.exit(3)",
    "typescript": "const answer: number = 6 * 7; console.log(answer); process.exit(3)",
    "bash": "echo $((6 * 7)); exit 3",
}


@pytest.fixture(scope="module")
def harness(harnesses: Harnesses) -> Iterator[SandboxHarness]:
    # Its own threads count among the program's processes (docs/limitations.md): on a busy machine it has more of them.
    harness = harnesses.new(CONTAINER, docker_runtime="runsc", max_processes=256)
    try:
        harness.open()
    except StartupError as error:
        out_of_reach("gvisor", error)
    yield harness
    harness.close()


@pytest.mark.parametrize("language", sorted(PROGRAMS))
def test_a_program_has_its_output_and_its_exit_code(harness: SandboxHarness, language: str):
    seen = harness.run(language, PROGRAMS[language])
    assert (seen.status, seen.stdout, seen.stderr, seen.ending.exit_code) == (Status.FAILED, "42\n", "", 3)


def test_the_kernel_is_gvisors(harness: SandboxHarness):
    assert harness.python("tell(os.uname().release)").told != os.uname().release


def test_a_signal_is_told(harness: SandboxHarness):
    seen = harness.python("import signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (seen.status, seen.ending.signal) == (Status.SIGNALLED, 9)


def test_a_program_that_does_not_end_is_ended_with_its_children(harness: SandboxHarness):
    seen = harness.bash("sleep 1000 & while true; do :; done", wall_seconds=2)
    assert seen.status is Status.TIMED_OUT


def test_too_much_memory_is_told(harness: SandboxHarness):
    seen = harness.python("kept = bytearray(2**30)\nprint('kept')")
    assert (seen.status, seen.stdout) == (Status.MEMORY_EXCEEDED, "")


def test_files_come_back_and_no_link_is_followed(harness: SandboxHarness):
    seen = harness.python(
        """
        os.makedirs("a/b")
        open("a/b/kept.txt", "w").write("kept")
        os.symlink("/etc/passwd", "a/link.txt")
        os.symlink("/etc", "folder")
        os.mkfifo("fifo")
        """
    )
    assert [(file.path, file.content) for file in seen.ending.files] == [("a/b/kept.txt", b"kept")]
    assert {file.path for file in seen.ending.skipped_files} == {"a/link.txt", "folder", "fifo"}


def test_there_is_no_network(harness: SandboxHarness):
    seen = harness.python(
        """
        import socket
        print(attempt(socket.create_connection, ("169.254.169.254", 80), 5))
        """
    )
    assert seen.stdout.strip() in ("ENETUNREACH", "EHOSTUNREACH")


def test_nothing_of_one_program_reaches_the_next(harness: SandboxHarness):
    harness.python("open('/tmp/left', 'w').write('left'); open('left', 'w').write('left')")
    assert harness.python("tell([os.path.exists('/tmp/left'), os.listdir()])").told == [False, ["main.py"]]
