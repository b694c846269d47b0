"""What ``POST /execute`` refuses, each with its number, its word, its place and its remedy; and nothing is run."""

import base64
import json

import pytest

pytestmark = pytest.mark.anyio


async def refused(door, response, status, code, pointer=None):
    """The problem, seen to be whole."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["type"] == f"/problems#{code}"
    assert body["instance"] == response.headers["x-request-id"]
    assert len(body["detail"]) > 15
    if pointer is not None:
        assert pointer in [fault["pointer"] for fault in body["errors"]]
    assert door.backend.executions == []
    return body


@pytest.mark.parametrize(
    "body",
    [
        b'{"code": "p", "args": [' + b"1," * 100_000 + b"1]}",
        b'{"code": "p", "args": [' + b"{}," * 100_000 + b"{}]}",
        json.dumps({"code": "p", **{f"field{n}": None for n in range(100_000)}}).encode(),
        json.dumps({"code": "p", "env": {f'\\{n}"': "\\" for n in range(100_000)}}).encode(),
        json.dumps({"code": "p", "files": [{"path": str(n), "content": ""} for n in range(100_000)]}).encode(),
        b"[" * 100_000,
    ],
    ids=["numbers", "objects", "fields", "variables", "files", "depth"],
)
async def test_a_body_of_very_many_values_is_refused_before_it_is_read(door, body):
    problem = await refused(door, await door.post(body), 422, "invalid-request")
    assert "more than 10,000 values" in problem["detail"]


async def test_an_unknown_field_is_refused_with_the_nearest_name(door):
    body = await refused(door, await door.execute("print 1", timout=3), 422, "invalid-request", "/timout")
    assert "did you mean 'timeout'?" in body["detail"]


async def test_an_unknown_field_far_from_any_gets_the_list_of_fields(door):
    body = await refused(door, await door.execute("print 1", zzz=3), 422, "invalid-request", "/zzz")
    assert "code, language, timeout" in body["detail"]


async def test_unknown_fields_inside_limits_and_files_are_refused_too(door):
    response = await door.execute("p", limits={"memory": 1}, files=[{"path": "a", "content": "", "mode": 1}])
    body = await refused(door, response, 422, "invalid-request", "/limits/memory")
    details = {fault["pointer"]: fault["detail"] for fault in body["errors"]}
    assert "memory_bytes" in details["/limits/memory"]
    assert "path, content, encoding" in details["/files/0/mode"]


async def test_every_field_at_fault_is_named_at_once(door):
    response = await door.post(json.dumps({"stdin": 1, "args": "x", "env": {"A": 1}, "timeout": "10"}))
    body = await refused(door, response, 422, "invalid-request")
    assert {fault["pointer"] for fault in body["errors"]} == {"/code", "/stdin", "/args", "/env/A", "/timeout"}
    assert "and 4 more" in body["detail"]


async def test_a_misspelt_field_is_reported_before_the_one_that_is_missing_for_it(door):
    body = await refused(door, await door.post(b'{"cod": "print(1)"}'), 422, "invalid-request", "/code")
    assert body["detail"] == "/cod: there is no field 'cod'; did you mean 'code'? (and 1 more, in `errors`)"


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"files": ["a"]}, '/files/0: must be an object such as {"path": "data/in.csv", "content": "1,2"}'),
        ({"limits": 1}, '/limits: must be an object such as {"memory_bytes": 134217728}'),
        ({"env": []}, '/env: must be an object such as {"MODE": "test"}'),
    ],
)
async def test_what_should_be_an_object_is_shown_one(door, fields, detail):
    body = await refused(door, await door.execute("p", **fields), 422, "invalid-request")
    assert body["detail"] == detail


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"args": ["a", "b\0"]}, "/args/1: it carries a NUL character"),
        ({"env": {"A": "x" * 200_000}}, "/env/A: it is 200002 bytes, and a program takes at most 131071;"),
        ({"files": [{"path": "../x", "content": ""}]}, "/files/0/path: '../x' climbs out of the workspace with '..'"),
        ({"language": "pyton"}, "/language: there is no language 'pyton'"),
    ],
)
async def test_the_detail_begins_with_the_place_it_speaks_of(door, fields, detail):
    body = (await door.execute("p", **fields)).json()
    assert body["detail"].startswith(detail)
    assert body["detail"] == f"{body['errors'][0]['pointer']}: {body['errors'][0]['detail']}"


async def test_null_is_refused_with_advice_to_leave_it_out(door):
    body = await refused(door, await door.execute("p", stdin=None), 422, "invalid-request", "/stdin")
    assert "leave the field out" in body["detail"]


@pytest.mark.parametrize(
    ("path", "example"),
    [
        ("/execute", '{"code": "print(1)"}'),
        ("/execute/stream", '{"code": "print(1)"}'),
        ("/actions/execute", '{"code": "print(1)"}'),
        ("/execute/batch", '{"items": [{"code": "print(1)"}]}'),
        ("/executions/exe_1/input", '{"text": "yes\\n"}'),
    ],
)
async def test_a_body_of_another_type_is_refused_with_one_that_the_route_takes(door, path, example):
    body = await refused(door, await door.post(b"[]", path=path), 422, "invalid-request")
    assert body["detail"].endswith(f"send for example {example}")


async def test_null_in_a_field_that_must_be_there_is_refused_without_the_advice_to_leave_it_out(door):
    body = await refused(door, await door.execute(None), 422, "invalid-request", "/code")
    assert "null is not taken here; send a value" in body["detail"]
    fed = await door.post(b'{"text": null}', path="/executions/exe_1/input")
    assert "null is not taken here; send exactly one of" in fed.json()["detail"]


async def test_a_pointer_escapes_what_json_pointers_must(door):
    await refused(door, await door.execute("p", **{"a/b~c": 1}), 422, "invalid-request", "/a~1b~0c")


async def test_a_thousand_faults_are_not_all_listed(door):
    response = await door.execute("p", **{f"f{n}": 1 for n in range(1000)})
    body = await refused(door, response, 422, "invalid-request")
    assert len(body["errors"]) == 20


async def test_a_huge_unknown_name_is_not_sent_back(door):
    response = await door.execute("p", **{"x" * 100_000: 1})
    await refused(door, response, 422, "invalid-request")
    assert len(response.text) < 2000


async def test_an_unknown_language_gets_the_nearest_and_what_is_available(door):
    response = await door.execute("p", language="pyton")
    body = await refused(door, response, 400, "unknown-language", "/language")
    assert "'python'" in body["detail"]
    assert "bash" in body["detail"]


async def test_a_language_without_interpreter_is_unavailable(door):
    response = await door.execute("p", language="cobol")
    await refused(door, response, 503, "language-unavailable")
    assert response.headers["retry-after"] == "3600"


@pytest.mark.parametrize(("code", "word"), [("", "empty"), ("a\0b", "NUL")])
async def test_code_that_no_program_can_be_is_refused(door, code, word):
    body = await refused(door, await door.execute(code), 400, "invalid-code", "/code")
    assert word in body["detail"]


async def test_code_over_the_limit_is_counted_in_bytes(open_door):
    async with open_door(max_code=10) as door:
        await refused(door, await door.execute("é" * 6), 400, "invalid-code", "/code")
        assert (await door.execute("#éééé")).status_code == 200


async def test_code_one_byte_too_long_is_reported_in_bytes(door):
    body = await refused(door, await door.execute("#" * (2**20 + 1)), 400, "invalid-code", "/code")
    assert "the code is 1048577 bytes, above this server's cap of 1048576 bytes;" in body["detail"]


async def test_every_limit_above_its_ceiling_is_named_at_once(door):
    response = await door.execute("p", timeout=100, limits={"processes": 1000, "cpu_seconds": 100})
    body = await refused(door, response, 422, "limit-too-loose")
    assert body["detail"] == (
        "/timeout: 100 is above this server's ceiling of 30 seconds; ask for at most 30, or send `wait_seconds` to run "
        "it in the background, for at most 600 (and 2 more, in `errors`)"
    )
    assert [fault["pointer"] for fault in body["errors"]] == ["/timeout", "/limits/cpu_seconds", "/limits/processes"]


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        (rb'{"code": "\ud800"}', 400, "invalid-code", "/code"),
        (rb'{"code": "\udc00\ud800"}', 400, "invalid-code", "/code"),
        (rb'{"code": "p", "stdin": "a\ud83d"}', 422, "invalid-request", "/stdin"),
        (rb'{"code": "p", "args": ["a", "\udfff"]}', 422, "invalid-request", "/args/1"),
        (rb'{"code": "p", "env": {"\ud800": "x"}}', 422, "invalid-request", "/env"),
    ],
)
async def test_half_of_a_character_is_refused_with_its_place(door, body, status, code, pointer):
    problem = await refused(door, await door.post(body), status, code, pointer)
    assert "surrogate" in problem["detail"]


async def test_a_whole_character_written_as_two_escapes_is_taken(door):
    response = await door.post(rb'{"code": "print \ud83d\ude00"}')
    assert response.json()["stdout"] == "😀\n"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"code",
        b'{"code": "p"',
        b'{"code": "p"}}',
        b"{'code': 'p'}",
        b'{"code": "\xff"}',
        b'{"code": "a\nb"}',
        b'{"code": "p", "timeout": NaN}',
        b"[" * 15_000,
        b'{"a":' * 5_000,
        b'{"code": "p", "timeout": ' + b"9" * 5000 + b"}",
        '{"code": "p"}'.encode("utf-16"),
    ],
)
async def test_broken_json_is_a_malformed_request(door, body):
    await refused(door, await door.post(body), 400, "malformed-request")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b" \n", "empty"),
        *[
            ('{"code": "p"}'.encode(f"utf-{width}{order}"), f"UTF-{width}")
            for width in (16, 32)
            for order in ("", "le", "be")
        ],
        (b'{"code": "caf\xe9"}', "byte 13 is 0xe9"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
    ],
)
async def test_a_body_that_is_no_text_in_utf8_is_named_for_what_it_is(door, body, what):
    assert what in (await refused(door, await door.post(body), 400, "malformed-request"))["detail"]


@pytest.mark.parametrize("body", [b"[]", b'"code"', b"1", b"null", b"true"])
async def test_json_that_is_no_object_is_refused(door, body):
    await refused(door, await door.post(body), 422, "invalid-request")


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application/json; charset=latin-1", ""],
)
async def test_another_content_type_is_refused(door, kind):
    response = await door.post(b'{"code": "p"}', headers={"Content-Type": kind})
    body = await refused(door, response, 415, "unsupported-media-type")
    assert "application/json" in body["detail"]


async def test_a_compressed_body_is_refused(door):
    response = await door.post(b"x", headers={"Content-Encoding": "gzip"})
    await refused(door, response, 415, "unsupported-media-type")


@pytest.mark.parametrize("timeout", [0, 0.99, -1, True, "10", [10], {}])
async def test_a_timeout_that_is_none_is_refused(door, timeout):
    await refused(door, await door.execute("p", timeout=timeout), 422, "invalid-request", "/timeout")


async def test_an_infinite_timeout_is_refused(door):
    await refused(door, await door.post(b'{"code": "p", "timeout": 1e999}'), 422, "invalid-request", "/timeout")


@pytest.mark.parametrize("timeout", [30.001, 31, 1e300])
async def test_a_timeout_above_the_ceiling_names_the_ceiling(door, timeout):
    body = await refused(door, await door.execute("p", timeout=timeout), 422, "limit-too-loose", "/timeout")
    assert "30 seconds" in body["detail"]


@pytest.mark.parametrize(
    ("name", "value", "ceiling"),
    [
        ("memory_bytes", 2**30, "512 MiB"),
        ("cpu_seconds", 30.5, "30"),
        ("processes", 65, "64"),
        ("output_bytes", 2**20, "64 KiB"),
        ("file_bytes", 2**40, "64 MiB"),
    ],
)
async def test_a_loosened_limit_names_the_ceiling(door, name, value, ceiling):
    response = await door.execute("p", limits={name: value})
    body = await refused(door, response, 422, "limit-too-loose", f"/limits/{name}")
    assert ceiling in body["detail"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory_bytes", 0),
        ("memory_bytes", -1),
        ("memory_bytes", 10**400),
        ("memory_bytes", 1.5 * 2**24 + 0.5),
        ("cpu_seconds", 0),
        ("processes", 0),
        ("processes", True),
        ("processes", 2**63),
        ("processes", 1e300),
        ("output_bytes", 1),
        ("file_bytes", -1),
        ("wall_seconds", 1),
    ],
)
async def test_a_limit_that_is_none_is_refused(door, name, value):
    await refused(door, await door.execute("p", limits={name: value}), 422, "invalid-request", f"/limits/{name}")


@pytest.mark.parametrize(
    ("env", "pointer"),
    [({"": "x"}, "/env/"), ({"A=B": "x"}, "/env/A=B"), ({"A\0": "x"}, "/env/A\0"), ({"A": "\0"}, "/env/A")],
)
async def test_a_variable_that_no_program_can_have_is_refused(door, env, pointer):
    await refused(door, await door.execute("p", env=env), 422, "invalid-request", pointer)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"args": ["a", "b\0"]}, "/args/1"),
        ({"args": ["x" * 2**17]}, "/args/0"),
        ({"args": ["x"] * 1025}, "/args"),
        ({"args": ["x" * 100_000] * 11}, "/args"),
        ({"env": {"A": "x" * 2**17}}, "/env/A"),
    ],
)
async def test_words_that_the_kernel_hands_to_no_program_are_refused(door, fields, pointer):
    await refused(door, await door.execute("p", **fields), 422, "invalid-request", pointer)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", ".", "a/..", "a\0b", "x" * 256])
async def test_a_path_out_of_the_workspace_is_refused(door, path):
    response = await door.execute("p", files=[{"path": "ok", "content": ""}, {"path": path, "content": ""}])
    await refused(door, response, 422, "illegal-path", "/files/1/path")


@pytest.mark.parametrize(
    "paths", [["a", "a"], ["a", "a/b"], ["a/b", "a"], ["x", "main.python"], ["x", "main.python/y"]]
)
async def test_paths_that_collide_are_refused(door, paths):
    response = await door.execute("p", files=[{"path": path, "content": ""} for path in paths])
    await refused(door, response, 422, "illegal-path", "/files/1/path")


@pytest.mark.parametrize("content", ["@", "YQ", "YQ==\n", "YQ==YQ==", "é", "_-8="])
async def test_bad_base64_is_refused(door, content):
    response = await door.execute("p", files=[{"path": "a", "content": content, "encoding": "base64"}])
    await refused(door, response, 422, "invalid-request", "/files/0/content")


async def test_an_unknown_encoding_is_refused(door):
    response = await door.execute("p", files=[{"path": "a", "content": "", "encoding": "hex"}])
    await refused(door, response, 422, "invalid-request", "/files/0/encoding")


async def test_files_that_the_workspace_cannot_hold_are_refused(open_door):
    async with open_door(max_workspace="1MiB") as door:
        half = base64.b64encode(bytes(600_000)).decode()
        files = [{"path": name, "content": half, "encoding": "base64"} for name in "ab"]
        await refused(door, await door.execute("p", files=files), 422, "invalid-request", "/files")


async def test_too_many_files_are_refused(door):
    files = [{"path": str(n), "content": ""} for n in range(1001)]
    await refused(door, await door.execute("p", files=files), 422, "invalid-request", "/files")


async def test_a_body_over_the_cap_is_refused_by_its_announced_length(open_door):
    async with open_door(max_body=2048) as door:
        body = await refused(door, await door.execute("x" * 3000), 413, "too-large")
        assert "CODEX_MAX_BODY" in body["detail"]
        assert "2 KiB" in body["detail"]


async def test_a_body_at_the_cap_is_taken(open_door):
    async with open_door(max_body=2048) as door:
        start, end = b'{"code": "print 1"', b"}"
        body = start + b" " * (2048 - len(start + end)) + end
        assert (await door.post(body)).status_code == 200
        assert (await door.post(body + b" ")).status_code == 413
