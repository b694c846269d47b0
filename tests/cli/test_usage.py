import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

from typer.testing import CliRunner, Result

from codex_server.cli.main import app
from codex_server.model import Caller
from codex_server.service.usage import Usage
from codex_server.store.sqlite import SqliteStore

TODAY = datetime.now(UTC).date()


def show(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["usage", "--state-dir", str(folder), *arguments])


def fill(folder: Path) -> None:
    async def write() -> None:
        store = SqliteStore(folder)
        usage = Usage(store, days=30)
        usage.note(usage.now().date(), Caller("tok_1", "ci"), executions=3, cpu_seconds=1.5)
        await usage.close()
        await store.close()

    asyncio.run(write())


def test_each_caller_is_a_line_for_each_day(tmp_path):
    fill(tmp_path)
    header, line = show(tmp_path).stdout.splitlines()
    assert header.split() == ["DAY", "(UTC)", "WHO", "EXECUTIONS", "CPU", "SECONDS"]
    assert line.split()[1:] == ["ci", "3", "1.500"]


def test_json_has_the_same(tmp_path):
    fill(tmp_path)
    (entry,) = json.loads(show(tmp_path, "--days", "2", "--json").stdout)["usage"]
    assert entry.pop("day") >= TODAY.isoformat()
    assert entry == {"caller": "ci", "executions": 3, "cpu_seconds": 1.5}


def test_a_folder_without_usage_says_so_and_stays_as_it_is(tmp_path):
    folder = tmp_path / "none"
    assert f"nobody ran anything in the last 7 days, as {folder} shows" in show(folder).stdout
    assert json.loads(show(folder, "--json").stdout) == {"usage": []}
    assert not folder.exists()
