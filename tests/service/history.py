"""Entries of the history for tests, and a store that has some."""

from datetime import UTC, datetime

from codex_server.service.history import TABLE, ExecutionEntry
from codex_server.store.base import Store


def entry(name: str = "exe_1", **changes: object) -> ExecutionEntry:
    facts: dict[str, object] = {
        "execution_id": name,
        "status": "succeeded",
        "language": "python",
        "submitted_at": datetime(2026, 11, 28, 12, 30, 5, tzinfo=UTC),
        "background": False,
        "execution_time": 0.25,
        "code_bytes": 8,
        "code_sha256": "0" * 64,
        "stdout_bytes": 3,
        "stderr_bytes": 0,
        "caller": "chatgpt",
        "user_agent": "curl/8.5.0",
        "request_id": f"req-{name}",
    }
    return ExecutionEntry.model_validate(facts | changes)


async def keep(store: Store, *entries: ExecutionEntry) -> None:
    for each in entries:
        await store.put(TABLE, each.execution_id, each.model_dump_json().encode(), owner=f"tok_{each.caller}")
