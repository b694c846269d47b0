"""What the OpenAPI document says of each route: names, words, examples. Passed to the route's decorator."""

from typing import Any

from starlette.responses import PlainTextResponse, StreamingResponse

from codex_server import __version__
from codex_server.api.problems import MEDIA_TYPE, PAGE, Kind, kinds
from codex_server.api.schemas import BatchResponse, HomeResponse, LiveResponse, ReadyResponse
from codex_server.service.schemas import ExecuteResponse, HealthResponse, LanguagesResponse
from codex_server.service.session_schemas import SessionExecuteResponse

REQUEST_ID = "3f1c9a0e5b7d4c21"
BEARER: list[dict[str, list[str]]] = [{"BearerAuth": []}]
_WHEN = "2026-11-21T12:00:00.123456Z"

EXECUTE_RESPONSE: dict[str, Any] = {
    "execution_id": "exe_01k9vj3m8qz5x7c2d4f6g8h0jk",
    "status": "succeeded",
    "output": "Hello World\n",
    "error": None,
    "exit_code": 0,
    "signal": None,
    "execution_time": 0.004,
    "timestamp": _WHEN,
    "stdout": "Hello World\n",
    "stderr": "",
    "truncated": {"stdout": False, "stderr": False},
    "usage": {
        "queue_seconds": 0.0001,
        "wall_seconds": 0.004,
        "cpu_seconds": 0.003,
        "peak_memory_bytes": 9437184,
        "stdout_bytes": 12,
        "stderr_bytes": 0,
    },
    "files": [],
    "skipped_files": [],
}
_TIMED_OUT = EXECUTE_RESPONSE | {
    "status": "timed_out",
    "output": "",
    "error": "Timed out after 1 s",
    "exit_code": 137,
    "signal": "SIGKILL",
    "execution_time": 1.0,
    "stdout": "",
    "usage": EXECUTE_RESPONSE["usage"] | {"wall_seconds": 1.0, "stdout_bytes": 0},
}
_WITH_FILES = EXECUTE_RESPONSE | {
    "output": "3\n",
    "stdout": "3\n",
    "usage": EXECUTE_RESPONSE["usage"] | {"stdout_bytes": 2},
    "files": [{"path": "sum.txt", "size": 1, "media_type": "text/plain", "content": "3", "encoding": "utf-8"}],
    "skipped_files": [
        {
            "path": "big.bin",
            "size": 1048576,
            "reason": "it is larger than the 32768 bytes that are kept of one file",
        }
    ],
}
EXECUTE_REQUESTS: dict[str, dict[str, Any]] = {
    "python": {"summary": "Python", "value": {"code": "print('Hello World')", "language": "python"}},
    "javascript": {"summary": "JavaScript", "value": {"code": "console.log(2 + 2)", "language": "javascript"}},
    "timeout": {
        "summary": "A program that takes too long",
        "value": {"code": "while True: pass", "language": "python", "timeout": 1},
    },
    "everything": {
        "summary": "Every field",
        "value": {
            "code": "n = sum(map(int, open('in.csv').read().split(',')))\nopen('sum.txt', 'w').write(str(n))\nprint(n)",
            "language": "python",
            "timeout": 5,
            "stdin": "typed\n",
            "args": ["--verbose"],
            "env": {"MODE": "test"},
            "files": [{"path": "in.csv", "content": "1,2", "encoding": "utf-8"}],
            "limits": {"memory_bytes": 134217728, "cpu_seconds": 2, "processes": 16},
        },
    },
}
_LANGUAGES: dict[str, Any] = {
    "languages": [
        {
            "name": "python",
            "title": "Python",
            "version": "3.11.7",
            "available": True,
            "aliases": ["py", "python3"],
            "file_name": "main.py",
            "packages": [{"name": "numpy", "version": "2.4.6"}, {"name": "pandas", "version": "3.1.1"}],
        }
    ]
}
_HEALTH: dict[str, Any] = {
    "status": "healthy",
    "version": __version__,
    "languages": ["bash", "javascript", "python", "sql", "typescript"],
    "isolation": "full",
    "timestamp": _WHEN,
}
_READY: dict[str, Any] = {
    "status": "ready",
    "reasons": [],
    "isolation": "full",
    "running": 1,
    "queued": 0,
    "armed": {"python": 4, "javascript": 2},
}
_NOT_READY = _READY | {"status": "not_ready", "reasons": ["no sandbox of the pool python stands ready yet"]}
_PROBLEM_DETAILS: dict[str, str] = {
    "invalid-request": "there is no field 'timout'; did you mean 'timeout'?",
    "unknown-language": "there is no language 'pyton'. Did you mean 'python'? Available: bash, javascript, python",
    "limit-too-loose": "60 is above this server's ceiling of 30 seconds; ask for at most 30",
    "illegal-path": "'../x' climbs out of the workspace with '..'; write a relative path such as data/input.csv",
    "invalid-code": "the code is empty; send a program",
    "quota-exceeded": "today's 1000 executions are used up; they are back at 2026-11-22T00:00:00Z, in 43200 s",
    "rate-limited": "the limit of requests is used up (60 in 60 s); wait 12 s before the next",
}
_POINTERS = {
    "invalid-request": "/timout",
    "unknown-language": "/language",
    "limit-too-loose": "/timeout",
    "illegal-path": "/files/0/path",
    "invalid-code": "/code",
}


def ok(description: str, examples: dict[str, Any]) -> dict[str, Any]:
    """A response in JSON, with ``examples`` by name."""
    shown = {name: {"value": value} for name, value in examples.items()}
    return {"description": description, "content": {"application/json": {"examples": shown}}}


def problems(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """The answers by number, each with one example for each kind."""
    known = {kind.slug: kind for kind in kinds()}
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in (known[slug] for slug in slugs):
        response = responses.setdefault(kind.status, _problem_response())
        response["description"] = "; ".join(filter(None, [response["description"], kind.title]))
        response["content"][MEDIA_TYPE]["examples"][kind.slug] = {"value": problem_example(kind)}
    return responses


def _problem_response() -> dict[str, Any]:
    return {
        "description": "",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
    }


def problem_example(kind: Kind) -> dict[str, Any]:
    """A problem of ``kind`` as a client gets it."""
    detail = _PROBLEM_DETAILS.get(kind.slug, kind.meaning)
    pointer = _POINTERS.get(kind.slug)
    example: dict[str, Any] = {
        "type": f"{PAGE}#{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": f"{pointer}: {detail}" if pointer else detail,
        "instance": REQUEST_ID,
        "code": kind.slug,
    }
    if pointer:
        example["errors"] = [{"pointer": pointer, "detail": detail}]
    return example


def header(description: str, example: str) -> dict[str, Any]:
    """A header field of a response."""
    return {"description": description, "schema": {"type": "string"}, "example": example}


REPLAYED = {
    "Idempotency-Replayed": header("`true` when this is the kept response of an earlier request", "true"),
}
_RATE_HEADERS = {
    "RateLimit-Policy": header("Requests (q) in so many seconds (w), after an IETF draft", '"minute";q=60;w=60'),
    "RateLimit": header("How many are left (r), and the seconds (t) until more come", '"minute";r=59;t=60'),
    "Quota-Policy": header("The same for a UTC day, where the server has a quota", '"executions";q=1000;w=86400'),
    "Quota": header("What is left of the day's quota", '"executions";r=999;t=43200'),
    **REPLAYED,
}

EXECUTE: dict[str, Any] = {
    "operation_id": "executeCode",
    "summary": "Execute code",
    "tags": ["execution"],
    "response_model": ExecuteResponse | SessionExecuteResponse,
    "responses": {
        200: ok(
            "The program ran; `status` reports how it went",
            {"succeeded": EXECUTE_RESPONSE, "timed_out": _TIMED_OUT, "files": _WITH_FILES},
        )
        | {"headers": _RATE_HEADERS},
        **problems(
            "malformed-request",
            "invalid-code",
            "unknown-language",
            "unauthenticated",
            "forbidden",
            "request-timeout",
            "unknown-session",
            "session-busy",
            "session-ended",
            "idempotency-in-flight",
            "idempotency-lost",
            "too-large",
            "unsupported-media-type",
            "invalid-request",
            "limit-too-loose",
            "illegal-path",
            "idempotency-mismatch",
            "rate-limited",
            "quota-exceeded",
            "internal",
            "sandbox-fault",
            "busy",
            "draining",
            "language-unavailable",
            "sandbox-unavailable",
        ),
    },
    "openapi_extra": {
        "security": BEARER,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/ExecuteRequest"},
                    "examples": EXECUTE_REQUESTS,
                }
            },
        },
    },
}
IN_SESSION: dict[str, Any] = EXECUTE_RESPONSE | {
    "truncated": {"stdout": False, "stderr": False, "result": False},
    "execution_count": 2,
    "result": {"text/plain": "42"},
    "interpreter_restarted": False,
    "session_expires_at": "2026-11-21T12:15:00.127Z",
}
_EVENTS = (
    'id: 1\nevent: started\ndata: {"execution_id":"exe_01k9vj3m8qz5x7c2d4f6g8h0jk","timestamp":"' + _WHEN + '"}\n\n'
    'id: 2\nevent: stdout\ndata: {"text":"Hello World\\n"}\n\n'
    'id: 3\nevent: finished\ndata: {"status":"succeeded","exit_code":0,...}\n\n'
)
_LINES = '{"id":2,"type":"stdout","text":"Hello World\\n"}\n'
STREAM: dict[str, Any] = EXECUTE | {
    "operation_id": "streamCode",
    "summary": "Execute code and follow it",
    "response_model": None,
    "response_class": StreamingResponse,
    "responses": EXECUTE["responses"]
    | {
        200: {
            "description": "Events as they happen: `started`, `stdout`, `stderr`, `gap`, `file`, then exactly one of "
            "`finished` (the response of `/execute` without the text that was sent) and `problem`",
            "headers": {name: field for name, field in _RATE_HEADERS.items() if name != "Idempotency-Replayed"},
            "content": {
                "text/event-stream": {"schema": {"type": "string"}, "example": _EVENTS},
                "application/x-ndjson": {"schema": {"type": "string"}, "example": _LINES},
            },
        },
    },
}
_BATCH_REQUEST = {"items": [{"code": "print(1)"}, {"code": "echo 2", "language": "pyton"}], "max_parallel": 2}
_REFUSED = {"problem": problem_example(next(kind for kind in kinds() if kind.slug == "unknown-language"))}
_BATCH_RESPONSE = {"items": [EXECUTE_RESPONSE, _REFUSED]}
BATCH: dict[str, Any] = EXECUTE | {
    "operation_id": "executeBatch",
    "summary": "Execute many programs",
    "response_model": BatchResponse,
    "responses": EXECUTE["responses"]
    | {
        200: ok("What became of each item, in the order of the request", {"batch": _BATCH_RESPONSE})
        | {"headers": _RATE_HEADERS}
    },
    "openapi_extra": EXECUTE["openapi_extra"]
    | {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/BatchRequest"},
                    "examples": {"batch": {"value": _BATCH_REQUEST}},
                }
            },
        }
    },
}
LANGUAGES: dict[str, Any] = {
    "operation_id": "listLanguages",
    "summary": "List supported languages",
    "tags": ["execution"],
    "response_model": LanguagesResponse,
    "responses": {200: ok("List of supported languages", {"languages": _LANGUAGES})},
}
HEALTH: dict[str, Any] = {
    "operation_id": "healthCheck",
    "summary": "Health check",
    "tags": ["operation"],
    "response_model": HealthResponse,
    "responses": {200: ok("Server is healthy, or says why not", {"healthy": _HEALTH})},
}
LIVE: dict[str, Any] = {
    "operation_id": "liveness",
    "summary": "Liveness",
    "tags": ["operation"],
    "response_model": LiveResponse,
    "responses": {200: ok("The process answers", {"alive": {"status": "alive"}})},
}
READY: dict[str, Any] = {
    "operation_id": "readiness",
    "summary": "Readiness",
    "tags": ["operation"],
    "response_model": ReadyResponse,
    "responses": {
        200: ok("Every pool has sandboxes", {"ready": _READY}),
        503: ok("`reasons` tells what is missing; executions may fail or wait", {"not_ready": _NOT_READY})
        | {
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/ReadyResponse"},
                    "examples": {"not_ready": {"value": _NOT_READY}},
                }
            }
        },
    },
}
HOME: dict[str, Any] = {
    "operation_id": "home",
    "summary": "Name, version, links",
    "tags": ["operation"],
    "response_model": HomeResponse,
    "responses": {
        200: ok(
            "What this is, and where to go",
            {"home": {"name": "Codex Server", "version": __version__, "links": {"execute": "/execute"}}},
        )
    },
}
METRICS: dict[str, Any] = {
    "operation_id": "readMetrics",
    "summary": "Metrics",
    "tags": ["operation"],
    "response_class": PlainTextResponse,
    "responses": {
        200: {
            "description": "Numbers for Prometheus",
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "example": 'codex_executions_total{backend="embedded",language="python",status="succeeded"} 1.0\n',
                }
            },
        },
        **problems("unauthenticated", "forbidden"),
    },
    "openapi_extra": {"security": BEARER},
}
