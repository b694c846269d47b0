"""``POST /execute``: every field of the request and of the response."""

import base64
import json
from datetime import UTC, datetime

import pytest
from dirty_equals import IsFloat, IsStr

from codex_server.model import PIPES, Stdio, Terminal
from codex_server.service.schemas import ExecuteResponse

pytestmark = pytest.mark.anyio
MEBI = 2**20


async def test_a_program_that_works_has_every_field_of_the_response(door):
    response = await door.execute("print hi")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert body == {
        "execution_id": IsStr(regex=r"exe_[0-9a-z]{26}"),
        "status": "succeeded",
        "output": "hi\n",
        "error": None,
        "exit_code": 0,
        "signal": None,
        "execution_time": IsFloat(ge=0),
        "timestamp": IsStr(regex=r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"),
        "stdout": "hi\n",
        "stderr": "",
        "truncated": {"stdout": False, "stderr": False},
        "usage": {
            "queue_seconds": IsFloat(ge=0),
            "wall_seconds": IsFloat(ge=0),
            "cpu_seconds": 0.0,
            "peak_memory_bytes": 2**20,
            "stdout_bytes": 3,
            "stderr_bytes": 0,
        },
        "files": [],
        "skipped_files": [],
    }
    assert abs((datetime.now(UTC) - datetime.fromisoformat(body["timestamp"])).total_seconds()) < 60


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("exit 3", {"status": "failed", "exit_code": 3, "signal": None, "error": "Exit code 3"}),
        ("error bad\nexit 1", {"status": "failed", "exit_code": 1, "error": "Exit code 1\nbad\n", "stderr": "bad\n"}),
        ("error note", {"status": "succeeded", "exit_code": 0, "error": "note\n", "stderr": "note\n"}),
        (
            "signal 11",
            {
                "status": "signalled",
                "exit_code": 139,
                "signal": "SIGSEGV",
                "error": "Killed by SIGSEGV (Segmentation fault)",
            },
        ),
        ("print so far\nhang", {"status": "timed_out", "exit_code": 137, "error": "Timed out after 10 s"}),
        ("oom", {"status": "memory_exceeded", "exit_code": 137, "error": "Out of memory: limit 512 MiB"}),
        (
            "cpu 31",
            {
                "status": "timed_out",
                "error": "Timed out: the limit of 30 s of CPU time was used up",
            },
        ),
    ],
)
async def test_each_way_to_end_has_its_status_and_a_reason_to_act_on(door, code, expected):
    response = await door.execute(code)
    assert response.status_code == 200
    body = response.json()
    assert {name: body[name] for name in expected} == expected
    assert body["output"] == body["stdout"]


async def test_a_flood_is_stopped_and_reported(open_door):
    async with open_door(max_flood="64KiB") as door:
        body = (await door.execute("flood 1000000")).json()
    assert body["status"] == "output_exceeded"
    assert body["error"].startswith("Too much output: stopped after ")
    assert body["truncated"]["stdout"] is True


async def test_without_a_language_the_program_is_python(door):
    await door.execute("print 1")
    assert door.backend.executions[0].language == "python"


async def test_an_alias_in_any_case_finds_its_language(door):
    await door.execute("print 1", language="JS")
    assert door.backend.executions[0].language == "javascript"


async def test_stdin_args_and_env_reach_the_program(door):
    response = await door.execute("stdin\nargs\nenv", stdin="tÿped\n", args=["--x", ""], env={"MODE": "é", "E": ""})
    assert response.json()["stdout"] == 'tÿped\n["--x", ""]\n{"E": "", "MODE": "\\u00e9"}\n'


async def test_merged_streams_are_standard_output_in_exact_order(door):
    body = (await door.execute("print one\nerror two\nprint three", merge_streams=True)).json()
    assert (body["stdout"], body["stderr"]) == ("one\ntwo\nthree\n", "")


async def test_a_terminal_has_one_stream_and_the_size_that_was_asked_for(door):
    body = (await door.execute("print one\nerror two", terminal={"rows": 30, "columns": 100})).json()
    assert (body["stdout"], body["stderr"]) == ("one\ntwo\n", "")
    assert door.backend.executions[-1].stdio == Stdio(terminal=Terminal(rows=30, columns=100))
    await door.execute("print one", terminal={})
    assert door.backend.executions[-1].stdio == Stdio(terminal=Terminal(rows=24, columns=80))
    await door.execute("print one")
    assert door.backend.executions[-1].stdio == PIPES


@pytest.mark.parametrize("size", [{"rows": 0}, {"columns": 501}, {"rows": "24"}, {"lines": 24}])
async def test_a_size_that_no_terminal_can_have_is_refused(door, size):
    response = await door.execute("print one", terminal=size)
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request")
    assert response.json()["errors"][0]["pointer"] == f"/terminal/{next(iter(size))}"


async def test_a_terminal_is_refused_where_no_sandbox_can_have_one(door):
    door.backend.no_terminal = "there are no terminals here; leave `terminal` out"
    response = await door.execute("print one", terminal={})
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request")
    assert "leave `terminal` out" in response.text
    assert door.backend.executions == []


async def test_without_fields_the_program_gets_nothing_of_the_callers(door):
    await door.execute("print 1")
    execution = door.backend.executions[0]
    assert (execution.args, dict(execution.env), execution.stdin, execution.files) == ((), {}, b"", ())


async def test_files_are_written_before_the_run(door):
    files = [
        {"path": "data/in.txt", "content": "text\n"},
        {"path": "raw.bin", "content": base64.b64encode(b"\x00\xff").decode(), "encoding": "base64"},
    ]
    response = await door.execute("cat data/in.txt", files=files)
    assert response.json()["stdout"] == "text\n"
    assert [(file.path, file.content) for file in door.backend.executions[0].files] == [
        ("data/in.txt", b"text\n"),
        ("raw.bin", b"\x00\xff"),
    ]


async def test_a_path_that_stays_inside_is_written_where_it_leads(door):
    files = [{"path": "/mnt/data/./in.txt", "content": "seen"}, {"path": "a//b/../c", "content": ""}]
    response = await door.execute("cat in.txt", files=files)
    assert response.json()["stdout"] == "seen"
    assert [file.path for file in door.backend.executions[0].files] == ["in.txt", "a/c"]


async def test_files_that_the_program_leaves_come_back(door):
    body = (await door.execute("write out/a.csv 1,2\nwrite plot.png x\nskip pipe a FIFO is not handed back")).json()
    assert body["files"] == [
        {"path": "out/a.csv", "size": 3, "media_type": "text/csv", "content": "1,2", "encoding": "utf-8"},
        {"path": "plot.png", "size": 1, "media_type": "image/png", "content": "x", "encoding": "utf-8"},
    ]
    assert body["skipped_files"] == [{"path": "pipe", "size": None, "reason": "a FIFO is not handed back"}]


async def test_limits_are_the_servers_unless_tightened(door):
    await door.execute("print 1")
    await door.execute(
        "print 1",
        timeout=2.5,
        limits={
            "memory_bytes": 64 * MEBI,
            "cpu_seconds": 1,
            "processes": 4.0,
            "output_bytes": 1000,
            "file_bytes": 0,
        },
    )
    first, second = (execution.limits for execution in door.backend.executions)
    assert (first.wall_seconds, first.memory_bytes, first.processes) == (10.0, 512 * MEBI, 64)
    assert (second.wall_seconds, second.memory_bytes, second.cpu_seconds) == (2.5, 64 * MEBI, 1.0)
    assert (second.processes, second.output_bytes, second.file_bytes) == (4, 1000, 0)


@pytest.mark.parametrize("timeout", [1, 10, 30, 1.5])
async def test_every_timeout_of_the_first_contract_is_taken(door, timeout):
    response = await door.execute("hang", timeout=timeout)
    assert response.json()["error"] == f"Timed out after {timeout:g} s"


async def test_bytes_that_are_not_utf8_are_reported_as_replacement_characters(door):
    body = (await door.execute("bytes 61ff62")).json()
    assert body["stdout"] == "a\ufffdb"
    assert body["usage"]["stdout_bytes"] == 3


async def test_hostile_output_is_carried_whole(door):
    raw = bytes(range(32)) + "  \u2028</script>😀".encode()
    body = (await door.execute(f"bytes {raw.hex()}")).json()
    assert body["stdout"] == raw.decode()


async def test_the_response_stays_within_its_size_whatever_the_program_prints(open_door):
    async with open_door(max_response=10_000) as door:
        response = await door.execute(
            "bytes " + "01" * 20_000 + "\nerror-bytes " + "22" * 20_000 + "\nwrite f " + "y" * 9000
        )
    body = response.json()
    assert 8_000 < len(response.text) <= 10_000
    assert body["truncated"] == {"stdout": True, "stderr": True}
    assert body["stdout"].startswith("\x01")
    assert body["stdout"].endswith("\x01")
    assert "bytes left out" in body["stdout"]
    assert body["usage"]["stdout_bytes"] == 20_000
    assert body["files"] == []
    assert body["skipped_files"][0]["path"] == "f"


async def test_every_response_has_the_documented_shape(door):
    for code in ("print 1", "exit 2", "signal 9", "hang", "oom", "write a b", "skip a b"):
        ExecuteResponse.model_validate_json((await door.execute(code)).text)


async def test_a_json_subtype_and_a_charset_are_json_too(door):
    body = json.dumps({"code": "print 1"})
    kinds = ["application/json; charset=utf-8", "application/vnd.codex+json", "Application/JSON;charset=UTF-8"]
    kinds += ["application/json; charset=UTF-8;", "application/json;", "application/json ; version=1; charset = 'utf8'"]
    for kind in kinds:
        response = await door.post(body, headers={"Content-Type": kind})
        assert response.status_code == 200, kind


async def test_a_byte_order_mark_and_a_content_encoding_that_compresses_nothing_do_not_matter(door):
    for coding in ("", "identity", "utf-8"):
        response = await door.post(b'\xef\xbb\xbf{"code": "print 1"}', headers={"Content-Encoding": coding})
        assert response.json()["stdout"] == "1\n"
