"""SQL on a database of the workspace: as a program, and as an interpreter that stays."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codex_server.interpreters import find_interpreter
from tests.runners.comparison import ENVIRONMENT, HANG_SECONDS, RUNNERS
from tests.runners.live_interpreter import LiveInterpreter, Reply, started

PYTHON = Path(os.environ.get("CODEX_TEST_PYTHON") or find_interpreter("python").path)
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
ENDLESS = f"{NUMBERS} SELECT count(*) FROM n"


def run(folder: Path, sql: str, **options: Any) -> tuple[int, Any, str]:
    """The exit code, what was printed as JSON (None: nothing), and stderr."""
    (folder / "main.sql").write_text(sql, encoding="utf-8")
    done = subprocess.run(
        [PYTHON, "-E", "-S", RUNNERS / "sql" / "run.py", "main.sql", *([json.dumps(options)] if options else [])],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def table(columns: list[str], rows: list[list[Any]], *, truncated: bool = False) -> dict[str, Any]:
    return {"columns": columns, "rows": rows, "row_count": len(rows), "truncated": truncated}


RESULTS = {
    "rows of the last statement": ("SELECT 1 AS a; SELECT 2 AS b, 'x' AS c;", {}, table(["b", "c"], [[2, "x"]])),
    "no statement": ("-- nothing\n;;", {}, table([], [])),
    "rows that were changed": (
        "CREATE TABLE t(a); INSERT INTO t VALUES (1), (2)",
        {},
        {"columns": [], "rows": [], "row_count": 2, "truncated": False},
    ),
    "semicolons in texts, comments and triggers": (
        "CREATE TABLE t(a); -- a; b\nCREATE TRIGGER r AFTER INSERT ON t WHEN new.a > 0 BEGIN DELETE FROM t; INSERT "
        "INTO t VALUES (0); END;\nINSERT INTO t VALUES (5); /* ; */ SELECT a, ';' FROM t -- end",
        {},
        table(["a", "';'"], [[0, ";"]]),
    ),
    "parameters by place": ("SELECT ?, ?, ?", {"parameters": [1, None, "x"]}, table(["?"] * 3, [[1, None, "x"]])),
    "parameters by name": ("SELECT :a AS a", {"parameters": {"a": 1.5}}, table(["a"], [[1.5]])),
    "blob": (
        "SELECT x'00ff' AS b, ? AS c",
        {"parameters": [{"base64": "AP8="}]},
        table(["b", "c"], [[{"base64": "AP8="}] * 2]),
    ),
    "text that is no UTF-8": ("SELECT CAST(x'ff61' AS TEXT) AS t", {}, table(["t"], [[{"base64": "/2E="}]])),
    "text with a zero": ("SELECT 'a' || char(0) || 'é' AS t", {}, table(["t"], [["a\0é"]])),
    "numbers that JSON has not": ("SELECT 9e999 AS i, -9e999 AS n", {}, table(["i", "n"], [["Infinity", "-Infinity"]])),
    "the largest integer": ("SELECT 9223372036854775807 AS i", {}, table(["i"], [[2**63 - 1]])),
    "row cap": (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9) SELECT i FROM n",
        {"max_rows": 3},
        table(["i"], [[1], [2], [3]], truncated=True),
    ),
    "exactly as many rows as the cap": (
        "VALUES (1), (2)",
        {"max_rows": 2},
        table(["column1", "column2"][:1], [[1], [2]]),
    ),
    "rows that are too long together": (
        f"{NUMBERS} SELECT printf('%.*c', 900000, 'x') AS x FROM n",
        {},
        table(["x"], [["x" * 900_000]], truncated=True),
    ),
    "another database": ("CREATE TABLE t(a); SELECT 1 AS a", {"database": "other.db"}, table(["a"], [[1]])),
    "memory": ("CREATE TABLE t(a); SELECT 1 AS a", {"database": ":memory:"}, table(["a"], [[1]])),
    "vacuum": ("CREATE TABLE t(a); VACUUM; SELECT 1 AS a", {}, table(["a"], [[1]])),
    "a byte order mark": ("\ufeffSELECT 1 AS a", {}, table(["a"], [[1]])),
    "returning": (
        "CREATE TABLE t(a); INSERT INTO t VALUES (1), (2), (3) RETURNING a",
        {"max_rows": 1},
        table(["a"], [[1]], truncated=True),
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_result(name, tmp_path):
    sql, options, expected = RESULTS[name]
    assert run(tmp_path, sql, **options) == (0, expected, "")


ERRORS = {
    "no table": ("SELECT * FROM t", {}, "no such table: t"),
    "the second statement": ("SELECT 1; SELEC", {}, 'statement 2: near "SELEC": syntax error'),
    "attach": ("ATTACH '/etc/passwd' AS p", {}, ": ATTACH is not allowed"),
    "a copy elsewhere": ("VACUUM INTO 'copy.db'", {}, ": ATTACH is not allowed"),
    "an extension": ("SELECT load_extension('x')", {}, "not authorized"),
    "a value that is too long": ("SELECT hex(zeroblob(99999999))", {}, "string or blob too big"),
    "endless": (ENDLESS, {"timeout": 0.05}, "it did not end within 0.05 seconds"),
    "parameters of several statements": (
        "SELECT ?; SELECT ?",
        {"parameters": [1]},
        "parameters go with one statement, and there are 2",
    ),
    "too few parameters": ("SELECT ?, ?", {"parameters": [1]}, "Incorrect number of bindings supplied"),
    "a parameter that is none": ("SELECT ?", {"parameters": [[1]]}, "parameter 1 must be null, a number, a text"),
    "a number that is too large": ("SELECT ?", {"parameters": [2**70]}, "Python int too large"),
    "a path above": ("SELECT 1", {"database": "a/../../b"}, "database must be a path within the workspace"),
    "an absolute path": ("SELECT 1", {"database": "/tmp/b"}, "database must be a path within the workspace"),
    "a folder that is not there": ("SELECT 1", {"database": "no/b"}, "no/b: unable to open database file"),
    "a file that is no database": ("SELECT * FROM t", {"database": "main.sql"}, "file is not a database"),
    "an unknown option": ("SELECT 1", {"databse": "b"}, "there is no option 'databse'; there are database, parameters"),
    "a wrong option": ("SELECT 1", {"max_rows": True}, "max_rows must be a whole number"),
    "nothing to read": ("SELECT 1", {"read_only": True}, "there is no database data.sqlite"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error_is_one_line(name, tmp_path):
    sql, options, expected = ERRORS[name]
    code, printed, stderr = run(tmp_path, sql, **options)
    assert (code, printed, stderr.count("\n")) == (1, None, 1)
    assert stderr.startswith("Error: ")
    assert expected in stderr


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE t",
        "INSERT INTO t VALUES (1)",
        "CREATE TEMP TABLE x(a)",
        "PRAGMA user_version = 5",
        "ATTACH '' AS x",
        "VACUUM",
    ],
)
def test_read_only_writes_nothing(sql, tmp_path):
    run(tmp_path, "CREATE TABLE t(a)")
    before = (tmp_path / "data.sqlite").read_bytes()
    code, _, stderr = run(tmp_path, sql, read_only=True)
    assert (code, stderr.startswith("Error: ")) == (1, True)
    assert (tmp_path / "data.sqlite").read_bytes() == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM t",
        "PRAGMA table_info(t)",
        f"{NUMBERS} SELECT i FROM n LIMIT 5",
        "BEGIN; SELECT 1; COMMIT",
        "EXPLAIN SELECT 1",
    ],
)
def test_read_only_reads(sql, tmp_path):
    run(tmp_path, "CREATE TABLE t(a)")
    assert run(tmp_path, sql, read_only=True)[::2] == (0, "")


def test_statements_before_an_error_have_happened_and_a_transaction_has_not(tmp_path):
    run(tmp_path, "CREATE TABLE t(a); INSERT INTO t VALUES (1); BEGIN; INSERT INTO t VALUES (2); SELEC")
    assert run(tmp_path, "SELECT a FROM t")[1] == table(["a"], [[1]])


def test_a_database_that_was_not_written_is_not_left(tmp_path):
    run(tmp_path, "SELECT 1")
    assert [path.name for path in tmp_path.iterdir()] == ["main.sql"]


@pytest.mark.parametrize("arguments", [["{"], ["[]"], ["{}", "{}"]])
def test_arguments_that_are_no_options_are_refused(arguments, tmp_path):
    argv = [PYTHON, RUNNERS / "sql" / "run.py", "main.sql", *arguments]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)
    assert (done.returncode, done.stderr.startswith("Error: ")) == (1, True)
    if len(arguments) == 1:
        assert 'such as {"parameters": [1, "a"], "max_rows": 100}' in done.stderr


# --- the interpreter that stays ---


@pytest.fixture
def sql(tmp_path) -> Iterator[LiveInterpreter]:
    interpreter = started([PYTHON, "-E", "-S", RUNNERS / "sql" / "interpreter.py"], tmp_path)
    yield interpreter
    interpreter.close()


def test_result_of_a_cell_is_a_table_and_its_json(sql):
    reply = sql.run("SELECT 'north' AS region, 10 AS amount UNION ALL VALUES (NULL, -2.5), ('a\nb', x'00')")
    assert reply.text == "region  amount\n------  -----------\nnorth   10\nNULL    -2.5\na b     <blob AA==>\n(3 rows)"
    assert reply.result["application/json"] == table(
        ["region", "amount"], [["north", 10], [None, -2.5], ["a\nb", {"base64": "AA=="}]]
    )
    assert (reply.code, reply.stdout, reply.stderr) == (0, "", "")


def test_numbers_stand_to_the_right_and_long_tables_are_cut(sql):
    assert sql.run("SELECT 5 AS number UNION ALL SELECT 10").text == "number\n------\n     5\n    10\n(2 rows)"
    long = sql.run(f"{NUMBERS} SELECT i, printf('%.99c', 'x') FROM n LIMIT 2000")
    lines = long.text.splitlines()
    assert (len(lines), lines[-1], lines[2]) == (103, "(1000 rows and more, 900 not shown)", "  1  " + "x" * 59 + "…")
    assert sql.run("CREATE TABLE t(a)").text == "0 rows changed"


def test_temporary_tables_and_transactions_last(sql, tmp_path):
    sql.run("CREATE TABLE t(a); CREATE TEMP TABLE w(a); BEGIN; INSERT INTO t VALUES (1)")
    assert sql.run("INSERT INTO w VALUES (5); SELECT (SELECT a FROM t), (SELECT a FROM w)").result["application/json"][
        "rows"
    ] == [[1, 5]]
    with sqlite3.connect(tmp_path / "data.sqlite") as other:
        assert other.execute("SELECT count(*) FROM t").fetchall() == [(0,)]
    sql.run("COMMIT")
    with sqlite3.connect(tmp_path / "data.sqlite") as other:
        assert other.execute("SELECT count(*) FROM t").fetchall() == [(1,)]


def test_what_others_write_is_seen_also_when_they_replace_the_file(sql, tmp_path):
    sql.run("CREATE TABLE t(a)")
    with sqlite3.connect(tmp_path / "data.sqlite") as other:
        other.execute("INSERT INTO t VALUES (7)")
    assert sql.run("SELECT a FROM t").result["application/json"]["rows"] == [[7]]
    with sqlite3.connect(tmp_path / "new") as other:
        other.execute("CREATE TABLE u(b)")
    (tmp_path / "new").rename(tmp_path / "data.sqlite")
    assert sql.run("SELECT * FROM u").code == 0
    (tmp_path / "data.sqlite").unlink()
    assert sql.run("SELECT * FROM u").stderr == "Error: no such table: u\n"


def test_options_are_a_cell_s_own(sql):
    sql.run("CREATE TABLE t(a)", args=[json.dumps({"database": "b.db"})])
    assert sql.run("SELECT * FROM t").code == 1
    reply = sql.run("DROP TABLE t", args=[json.dumps({"database": "b.db", "read_only": True})])
    assert (reply.code, "nor is writing with read_only\n" in reply.stderr) == (1, True)
    assert sql.run("DROP TABLE t", args=[json.dumps({"database": "b.db"})]).code == 0
    assert sql.run("SELECT 1", args=["{"]).code == 1
    assert sql.run(ENDLESS, args=['{"timeout": 0.05}']).stderr == "Error: it did not end within 0.05 seconds\n"


def test_memory_is_kept(sql):
    options = ['{"database": ":memory:"}']
    sql.run("CREATE TABLE t(a)", args=options)
    assert sql.run("SELECT * FROM t", args=options).code == 0


def test_interrupt_ends_the_cell_and_keeps_the_connection(sql):
    sql.run("CREATE TEMP TABLE w(a)")
    sql.interrupt()
    timer_sql = f"CREATE TABLE started(a); {ENDLESS}"
    reply = sql.run(timer_sql, interrupt_when=lambda: Path(f"/proc/{sql.pid}/cwd/data.sqlite").stat().st_size > 0)
    assert reply == Reply(130, "", "Interrupted\n")
    assert sql.run("SELECT * FROM w").code == 0


def test_lock_of_another_program_is_an_error_and_no_endless_wait(sql, tmp_path):
    sql.run("CREATE TABLE t(a)")
    other = sqlite3.connect(tmp_path / "data.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert sql.run("INSERT INTO t VALUES (1)").stderr == "Error: database is locked\n"
    other.close()


def test_end_of_the_channel_ends_the_interpreter(tmp_path):
    interpreter = started([PYTHON, "-E", "-S", RUNNERS / "sql" / "interpreter.py"], tmp_path)
    interpreter.run("CREATE TABLE t(a); BEGIN; INSERT INTO t VALUES (1)")
    assert interpreter.close() == 0
    assert run(tmp_path, "SELECT * FROM t")[1] == table(["a"], [])
