"""A conversation of forty steps about one workbook, over HTTP: what each step must show."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from codex_server.languages import Languages
from tests.data_packages.conftest import ROOT
from tests.data_packages.workbook import xlsx
from tests.faults.running_server import TOKEN, running_server
from tests.tiers import STRONGEST

SALES = xlsx(
    [
        ("region", "month", "units", "price"),
        *[(("north", "south", None)[n % 3], n % 6 + 1, n % 7 + 1, 10.5) for n in range(60)],
    ]
)
REPORT = """
from docx import Document
report = Document()
report.add_heading('Sales')
report.add_paragraph(f'{len(df)} rows')
report.add_picture('figure-3.png')
os.makedirs('out', exist_ok=True)
report.save('out/report.docx')
"""
DIGEST = "import hashlib; hashlib.sha256(open('{}', 'rb').read()).hexdigest()"


@dataclass
class Talk:
    """The client's side: what later steps need is in ``known``, by its name in the responses."""

    client: httpx2.AsyncClient
    known: dict[str, str] = field(default_factory=dict)

    async def send(self, method: str, path: str, **sent: Any) -> httpx2.Response:
        response = await self.client.request(method, path.format(**self.known), **sent)
        if response.headers.get("content-type", "").startswith("application/json"):
            body = response.json()
            ids = ("session_id", "execution_id", "checkpoint_id")
            self.known |= {name: body[name] for name in ids if name in body}
            if result := body.get("result"):
                self.known["result"] = result.get("text/plain", "").strip("'")
        return response


Act = Callable[[Talk], Awaitable[str]]


def call(method: str, path: str, body: Any = None, **sent: Any) -> Act:
    """A request; its status and its body as text. ``{name}`` in a path, and "checkpoint_id" in a body, are known."""

    async def act(talk: Talk) -> str:
        given = (
            {} if body is None else {"json": {k: talk.known[v] if v == "checkpoint_id" else v for k, v in body.items()}}
        )
        response = await talk.send(method, path, **given, **sent)
        return f"{response.status_code} {response.text}"

    return act


def cell(code: str, language: str = "python", **fields: Any) -> Act:
    """An execution in the session: its status, exit code, files, result by media type, output and error."""

    async def act(talk: Talk) -> str:
        body = {"code": code, "language": language, **fields}
        response = await talk.send("POST", "/sessions/{session_id}/execute", json=body)
        assert response.status_code == 200, response.text
        found = response.json()
        shown = {name: found[name] for name in ("result", "output", "error")}
        files = [file["path"] for file in found["files"]]
        return f"{found['status']} {found['exit_code']} {files} {json.dumps(shown, ensure_ascii=False)}"

    return act


def follow(until: str) -> Act:
    """Polls of the execution that was sent last, from its beginning, until one has this text; all of them."""

    async def act(talk: Talk) -> str:
        polls, since = [""], 1
        while until not in polls[-1] and len(polls) < MOST_POLLS:
            response = await talk.send("GET", f"/executions/{{execution_id}}?wait_seconds=20&since={since}")
            since = response.json()["next"]
            polls.append(response.text)
        return "".join(polls)

    return act


def fetch(path: str) -> Act:
    """The content of a file, as its digest."""

    async def act(talk: Talk) -> str:
        response = await talk.send("GET", f"/sessions/{{session_id}}/files/{path}")
        return f"{response.status_code} {hashlib.sha256(response.content).hexdigest()}"

    return act


F = "/sessions/{session_id}/files"
MOST_POLLS = 20
STEPS: list[tuple[str, Act, list[str]]] = [
    ("open", call("POST", "/sessions", {}), ["201", '"expires_at"']),
    ("upload", call("POST", F + "?path=sales.xlsx", content=SALES), ["201", f'"size":{len(SALES)}']),
    ("list", call("GET", F), ["200", '"path":"sales.xlsx"']),
    (
        "read",
        cell("import pandas as pd\ndf = pd.read_excel('sales.xlsx', engine='openpyxl')\ndf.head(2)"),
        ["succeeded", "north", "text/html"],
    ),
    ("look", cell("df.info()"), ["60 entries", "40 non-null"]),
    ("display", cell("display(df.describe())"), ["text/html", "mean"]),
    (
        "a wrong name",
        cell("df.regoin.unique()"),
        ["failed 1", 'File \\"<cell 4>\\", line 1', "df.regoin.unique()", "AttributeError"],
    ),
    ("the right one", cell("sorted(df.region.dropna().unique())"), ["['north', 'south']"]),
    ("clean", cell("df = df.dropna()\ndf.to_csv('clean.csv', index=False)\nlen(df)"), ["clean.csv", '"40"']),
    (
        "plots",
        cell(
            "import matplotlib.pyplot as plt, seaborn as sns\nfor name in ('units', 'price'):\n"
            "    plt.figure(); df[name].plot()\nplt.figure()\n"
            "sns.heatmap(df.pivot_table(index='region', columns='month', values='units'))"
        ),
        ["['figure-1.png', 'figure-2.png', 'figure-3.png']", "image/png"],
    ),
    (
        "too slow",
        cell("import time\ntime.sleep(60)", timeout=1),
        ["timed_out", "keeps its variables"],
    ),
    ("variables after a time-out", cell("len(df)"), ['"40"']),
    (
        "a long one in the background",
        call(
            "POST",
            "/sessions/{session_id}/execute",
            {"code": "print('busy')\ntime.sleep(60)", "wait_seconds": 0, "timeout": 90},
        ),
        ["202", '"running"'],
    ),
    ("follow it", follow("busy"), ["busy"]),
    (
        "the session is busy",
        call("POST", "/sessions/{session_id}/execute", {"code": "1", "if_busy": "reject"}),
        ["409", "session-busy", "/interrupt"],
    ),
    ("interrupt it", call("POST", "/sessions/{session_id}/interrupt"), ['"interrupted":true']),
    ("its end", follow("exit_code"), ["KeyboardInterrupt", '"interpreter_restarted":false']),
    ("variables after an interrupt", cell("len(df)"), ['"40"']),
    (
        "a question",
        call(
            "POST",
            "/sessions/{session_id}/execute",
            {"code": "name = input('Title? ')\nname", "wait_seconds": 0, "keep_stdin_open": True, "timeout": 60},
        ),
        ["202"],
    ),
    ("the question", follow("Title? "), ["Title? "]),
    ("its answer", call("POST", "/executions/{execution_id}/input", {"text": "Sales\n"}), ["204"]),
    ("what came of it", follow("exit_code"), ["succeeded", "'Sales'"]),
    (
        "into a database",
        cell("import sqlite3\ndf.to_sql('sales', sqlite3.connect('data.sqlite'), index=False)"),
        ["data.sqlite", '"40"'],
    ),
    (
        "SQL",
        cell("select region, count(*) as n from sales group by region", "sql"),
        ['"rows": [["north", 20], ["south", 20]]', '"truncated": false'],
    ),
    ("wrong SQL", cell("select nope from sales", "sql"), ["failed 1", "no such column: nope"]),
    (
        "JavaScript",
        cell(
            "const rows = require('fs').readFileSync('clean.csv', 'utf8').trim().split('\\n')\nrows.length",
            "javascript",
        ),
        ['"41"'],
    ),
    ("bash", cell("wc -l < clean.csv; cd out 2>/dev/null || echo none yet", "bash"), ["41", "none yet"]),
    (
        "write a module",
        call("PUT", F + "/src/tax.py", content=b"def taxed(price):\n    return price * 1.2\n"),
        ["200", '"etag"'],
    ),
    ("use it", cell("import sys; sys.path.insert(0, 'src')\nimport tax\nround(tax.taxed(10), 2)"), ['"12.0"']),
    (
        "edit it",
        call("POST", F + "/edit", {"path": "src/tax.py", "edits": [{"search": "1.2", "replace": "1.5"}]}),
        ["200", '"exact"'],
    ),
    ("reload it", cell("import importlib\nimportlib.reload(tax).taxed(10)"), ['"15.0"']),
    ("search", call("POST", F + "/search", {"pattern": r"def \w+", "glob": "*.py"}), ['"src/tax.py","line":1']),
    ("export docx", cell(f"import os{REPORT}{DIGEST.format('out/report.docx')}"), ["out/report.docx"]),
    ("fetch it", fetch("out/report.docx"), ["200 {result}"]),
    (
        "pack what is not there",
        call("POST", F + "/archive", {"paths": ["out", "nope"], "to": "all.zip"}),
        ["404", "there is nothing at 'nope'"],
    ),
    (
        "pack it",
        call("POST", F + "/archive", {"paths": ["out", "src"], "to": "all.zip", "format": "zip"}),
        ["200", "all.zip"],
    ),
    (
        "leave the interpreter",
        cell("exit()"),
        ["succeeded 0"],
    ),
    (
        "variables are gone, files stay",
        cell("import os; os.path.exists('clean.csv'), 'df' in globals()"),
        ["(True, False)"],
    ),
    (
        "checkpoint",
        call("POST", "/sessions/{session_id}/checkpoints", {"description": "clean", "globs": ["*.csv", "src/**"]}),
        ["201", "clean.csv", "src/tax.py"],
    ),
    ("close", call("DELETE", "/sessions/{session_id}"), ["204"]),
    ("it is closed", call("GET", "/sessions/{session_id}"), ["410", "closed by its caller"]),
    ("resume", call("POST", "/sessions", {"checkpoint": "checkpoint_id"}), ["201"]),
    (
        "go on",
        cell("import pandas as pd; sorted(os.listdir()) if 'os' in globals() else len(pd.read_csv('clean.csv'))"),
        ['"40"'],
    ),
]


@pytest.mark.tier("change")
@pytest.mark.anyio
async def test_conversation_about_a_workbook_shows_what_each_step_must(equipped: Languages):
    packages = {"CODEX_DATA_PACKAGES": "true", "CODEX_PACKAGES_DIR": str(ROOT)}
    async with running_server(STRONGEST, **packages) as here:
        here.client.headers["Authorization"] = f"Bearer {TOKEN}"
        talk = Talk(here.client)
        for number, (name, act, shown) in enumerate(STEPS, 1):
            text = await act(talk)
            missing = [part for part in shown if part.replace("{result}", talk.known.get("result", "")) not in text]
            assert not missing, f"step {number}, {name}: {missing} is not in {text[:2000]}"
