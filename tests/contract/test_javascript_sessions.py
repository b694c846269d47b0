"""JavaScript and TypeScript in sessions: the interpreter that stays, within a sandbox of each kind."""

from codex_server.model import Status
from tests.contract.harness import Harness
from tests.contract.sessions import facts, opened


def test_javascript_and_typescript_have_variables_of_their_own_that_stay(harness: Harness) -> None:
    with opened(harness) as cells:
        assert cells.run("const a = 1; enum E { B = 2 }", "typescript").status is Status.SUCCEEDED
        assert cells.run("const a = 20; function twice(n) { return 2 * n }", "javascript").status is Status.SUCCEEDED
        again = cells.run("const twice = (n) => 3 * n; await twice(a)", "javascript")
        assert facts(again).result["text/plain"] == "60"
        assert facts(cells.run("a + E.B", "typescript")).result["text/plain"] == "3"
        read = cells.run("require('fs').readFileSync(0, 'utf8')", "javascript", stdin=b"given")
        assert facts(read).result["application/json"] == "given"


def test_a_javascript_cell_beyond_its_time_is_interrupted_and_variables_stay(harness: Harness) -> None:
    with opened(harness) as cells:
        for code in ("let kept = 41; while (true) {}", "await new Promise(() => {})", "setInterval(() => {}, 10)"):
            late = cells.run(code, "javascript", limits={"wall_seconds": 1})
            assert (late.status, late.exit_code) == (Status.TIMED_OUT, 130)
            assert not facts(late).interpreter_restarted
            after = cells.run("kept + 1", "javascript")
            assert (after.status, facts(after).result["text/plain"]) == (Status.SUCCEEDED, "42")
