"""What an init receives of an execution."""

import json
from dataclasses import replace

import pytest

from codex_server.sandboxes.protocol.payload import FILE_MARK, BackendDefaults, Payload, payload, run_order
from codex_server.settings import Settings
from tests.sandboxes.executions import AGENT, BASH, CODE, DEFAULTS, ENVIRONMENT, EVERYTHING, LIMITS, PYTHON, RUN_ORDER


def test_the_limits_of_the_execution_and_the_terms_of_the_server_are_reported():
    packed = Payload([bytes(17), b"code"], 17)
    assert (
        run_order(replace(EVERYTHING, limits=replace(LIMITS, memory_bytes=2**26)), PYTHON, packed, DEFAULTS)
        == RUN_ORDER
    )


def test_an_agent_has_no_limit_of_data():
    assert run_order(EVERYTHING, AGENT, Payload([], 0), DEFAULTS).data_limit is False
    assert run_order(EVERYTHING, BASH, Payload([], 0), DEFAULTS).data_limit is True


def test_the_payload_is_a_header_then_the_code_then_each_file():
    (header, *contents), header_bytes = payload(EVERYTHING, PYTHON, ENVIRONMENT, [])
    code = EVERYTHING.code.encode()
    assert header_bytes == len(header)
    assert json.loads(header) == {
        "file": "main.py",
        "files": [["main.py", len(code)], ["data/in.bin", 2], ["empty", 0], ["b", 2]],
        "args": ["one", "2"],
        "argv": [],
        "env": {"PATH": "/usr/bin", "LANG": "ru", "PYTHONUNBUFFERED": "1", "MINE": "x"},
    }
    assert contents == [code, b"\x00\xff", b"", b"bb"]


def test_the_arguments_stand_behind_the_command_as_they_came():
    execution = replace(CODE, args=("a b", "{program}", FILE_MARK))
    (header, *_), _ = payload(execution, BASH, ENVIRONMENT, ["/bin/bash", FILE_MARK])
    reported = json.loads(header)
    assert reported["argv"] == ["/bin/bash", "\0file", "a b", "{program}", "\0file"]
    assert reported["args"] == ["a b", "{program}", "\0file"]


@pytest.mark.parametrize(
    ("code", "read"),
    {
        "\ufeffif true; then\r\n  echo a\r\nfi\r": "if true; then\n  echo a\nfi",
        "cat <<EOF\r\na\r\nEOF\r\n": "cat <<EOF\na\nEOF\n",
        "cat <<EOF | tee x\na\r\nEOF\necho b\r\n": "cat <<EOF | tee x\na\r\nEOF\necho b\n",
        "cat <<-'A' <<\"B\"\n\ta\r\n\tA\nb\r\nB\necho c\r\n": "cat <<-'A' <<\"B\"\n\ta\r\n\tA\nb\r\nB\necho c\n",
        "cat <<< EOF\necho a\r\n": "cat <<< EOF\necho a\n",
        "echo a\necho $'b\\r'\n": "echo a\necho $'b\\r'\n",
    }.items(),
)
def test_a_command_reads_its_program_with_the_line_ends_of_unix(code, read):
    (_, content, *_), _ = payload(replace(CODE, code=code), BASH, ENVIRONMENT, ["/bin/bash", FILE_MARK])
    assert content == read.encode()


def test_a_program_with_an_agent_is_handed_over_as_it_came():
    (_, content), _ = payload(replace(CODE, code="\ufeffa\r\nb"), AGENT, ENVIRONMENT, [])
    assert content == "\ufeffa\r\nb".encode()


@pytest.mark.parametrize(
    ("changes", "one", "total"),
    [
        ({}, 64 * 2**20, 64 * 2**20 + 200_000),
        ({"max_artifact": 0}, 32 * 2**10, 200_000),
        ({"max_artifacts_execution": 2**20}, 2**20, 2**20 + 200_000),
        ({"max_artifact": 1000}, 32 * 2**10, 64 * 2**20 + 200_000),
    ],
)
def test_a_sandbox_hands_back_what_is_inlined_and_what_is_kept(changes, one, total):
    defaults = BackendDefaults.of(Settings(**changes))
    assert (defaults.inline_bytes, defaults.inline_total_bytes) == (one, total)
