"""Hints for programs that were written for a notebook."""

import pytest

from codex_server.model import Captured, CellFacts, Execution
from codex_server.sandboxes.testing.fake import fake_languages
from codex_server.service.notebook import hint_for_notebook
from codex_server.service.truncation import fitted_response
from tests.service.test_response import outcome


def hinted(code: str, **changes) -> str | None:
    return hint_for_notebook(Execution("exe_1", "python", code), outcome(**changes))


@pytest.mark.parametrize(
    "last", ["x", "1 + 1", "df.head()", "df['a'] == 3", "[n for n in x]", "f(a=1)", "len(x)", "x[1:3]"]
)
def test_last_expression_that_nobody_prints_is_hinted_at(last):
    assert f"print({last})" in (hinted(f"import y\n{last}\n") or "")
    assert f"print({last})" in (hinted(f"import y; {last}") or "")


def test_in_a_session_the_value_of_the_last_line_is_its_result_and_no_loss():
    assert hinted("x", cell=CellFacts(1, {"text/plain": "1"}, claimed=True, interpreter_restarted=False)) is None


def test_in_a_session_lines_of_notebooks_do_not_work_either():
    cell = CellFacts(1, None, claimed=True, interpreter_restarted=False)
    error = Captured("SyntaxError: invalid syntax")
    assert "lines that begin with ! or %" in (hinted("!ls", exit_code=1, stderr=error, cell=cell) or "")


@pytest.mark.parametrize(
    "code",
    [
        "",
        "pass",
        "x = 1",
        "x['a'] = 1",
        "x += 1",
        "x: int = 3",
        "import a",
        "main()",
        "time.sleep(1)",
        "a.append(3)",
        "f(\n 1)",
        "if x:\n    y",
        "# x",
        "x = (1,\n2)",
        "'text'",
        "def f(): pass",
        "df.to_csv('a')",
        "del x",
        "a.b[0] = c = f(1)",
    ],
)
def test_program_that_may_well_be_silent_gets_no_hint(code):
    assert hinted(code) is None


def test_program_that_printed_gets_no_hint():
    assert hinted("x", stdout=Captured("1\n")) is None


@pytest.mark.parametrize(
    ("code", "error", "remedy"),
    [
        ("!pip install x", "SyntaxError: invalid syntax", "not a notebook"),
        ("x = 1\n%matplotlib inline", "SyntaxError: invalid syntax", "not a notebook"),
        ("pip install x", "SyntaxError: invalid syntax", "cannot be installed"),
        ("display(df)", "NameError: name 'display' is not defined", "print(...)"),
        ("x = input('? ')", "EOFError: EOF when reading a line", "`keep_stdin_open`"),
    ],
)
def test_line_of_a_notebook_is_explained_after_the_exit_code(code, error, remedy):
    ended = {"exit_code": 1, "stderr": Captured(error)}
    advice = hinted(code, **ended)
    assert advice and remedy in advice
    response = fitted_response(Execution("exe_1", "python", code), outcome(**ended), fake_languages(), 10_000)
    assert response.error == f"Exit code 1\n{error}\n{advice}"
    assert hint_for_notebook(Execution("exe_1", "bash", code), outcome(**ended)) is None
