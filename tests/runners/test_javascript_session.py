# ruff: noqa: E501 - programs read better on one line
"""The interpreter of JavaScript and TypeScript sessions, as a plain process, cell by cell.

Every Node.js of this machine that the server could use takes part; TypeScript needs one that can strip types.
"""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runners.live_node import LiveNode, tell
from tests.runners.test_javascript_agent import NODES
from tests.tiers import Tier, in_tier
from tests.waiting import until

MUCH = 300_000


@pytest.fixture(
    scope="module", params=[in_tier(Tier.QUICK if name == "pinned" else Tier.NIGHTLY, name) for name in NODES]
)
def node(request) -> Path:
    return NODES[request.param]


@pytest.fixture(scope="module")
def typescript_node(node) -> Path:
    if tell(node, "process.features.typescript ?? ''") != "strip":
        pytest.skip(f"{node} cannot strip types")
    return node


@pytest.fixture(scope="module")
def shared(node, tmp_path_factory) -> Iterator[LiveNode]:
    """One interpreter for cells that leave nothing which others could meet."""
    session = LiveNode(node, tmp_path_factory.mktemp("shared") / "workspace")
    yield session
    session.close()


@pytest.fixture(scope="module")
def shared_typescript(typescript_node, tmp_path_factory) -> Iterator[LiveNode]:
    session = LiveNode(typescript_node, tmp_path_factory.mktemp("shared") / "workspace", "typescript")
    yield session
    session.close()


@pytest.fixture
def session(node, tmp_path) -> Iterator[LiveNode]:
    session = LiveNode(node, tmp_path / "workspace")
    yield session
    session.close()


VALUES = {
    "number": ("1 + 1", "2"),
    "text": ("'it' + \"'\" + 's'", "\"it's\""),
    "directive": ("'text'", "'text'"),
    "nothing": ("undefined", None),
    "call without a value": ("console.log", "[Function: log]"),
    "null": ("null", "null"),
    "object that could be a block": ("{ a: 1 }", "{ a: 1 }"),
    "object of names": ("const b = 2; ({ b })", "{ b: 2 }"),
    "block": ("{ let z = 1; z }", None),
    "declaration": ("5; const c = 1", None),
    "loop": ("for (const x of [1]) x", None),
    "behind a declaration of a function": ("f(); function f() { return 7 }", None),
    "with a semicolon and a comment": ("3; // three", "3"),
    "awaited": ("await Promise.resolve(42)", "42"),
    "sequence that awaits": ("await 0, 4", "4"),
    "awaiting in parentheses": ("await 1\n// a comment\n;(2)", "2"),
    "for await": ("const seen = []; for await (const x of [1, Promise.resolve(2)]) seen.push(x)\nseen", "[ 1, 2 ]"),
    "returned": ("return 8", "8"),
    "returned early": ("if (true) { return 'early' }\n9", "'early'"),
    "promise": ("Promise.resolve(3)", "Promise { 3 }"),
    "main function": ("async function main() { await 0 }\nmain()", None),
    "timer": ("setTimeout(() => {}, 1)", None),
    "map": ("new Map([[1, { a: [] }]])", "Map(1) { 1 => { a: [] } }"),
    "hashbang": ("#!/usr/bin/env node\n1", "1"),
    "sloppy": ("delete globalThis.nope; 010", "8"),
    "no semicolons": ("let a = 1\nconst [p] = [a]\nfunction g() {}\n(() => p)()", "1"),
    "empty": ("", None),
    "comment": ("// nothing", None),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_the_last_value_is_the_result(name, shared):
    code, text = VALUES[name]
    reply = shared.run(code)
    assert (reply.code, reply.text, reply.stderr) == (0, text, "")


CONVERSATIONS = {
    "const becomes let": (["const a = 1", "let a = 2", "a = 3; a"], "3"),
    "let becomes const": (["let b = 1", "const b = 2; b"], "2"),
    "function becomes const": (["function c() { return 1 }", "const c = () => 2", "c()"], "2"),
    "const becomes function": (["const d = 1", "function d() { return 2 }", "d()"], "2"),
    "class again": (["class E { x = 1 }", "class E { x = 2; static y = new E().x }", "[new E().x, E.y]"], "[ 2, 2 ]"),
    "class becomes var": (["class F {}", "var F = 3", "F"], "3"),
    "var keeps its value": (["var g = 1", "var g; g"], "1"),
    "let loses its value": (["let h = 1", "let h; h"], None),
    "patterns": (["const { i, j: [k, ...l], m = 4 } = { i: 1, j: [2, 3] }", "[i, k, l, m]"], "[ 1, 2, [ 3 ], 4 ]"),
    "var of a loop": (["for (var n = 0; n < 3; n++);", "for (var o in { p: 1 }); for (var { q } of [{ q: 5 }]);", "[n, o, q]"], "[ 3, 'p', 5 ]"),
    "var of a block": (["if (true) { var r = 1; var { s } = { s: 2 }; var t }", "[r, s, t]"], "[ 1, 2, undefined ]"),
    "functions stand before everything": (["const u = v(); function v() { return w() } async function* w2() {} function w() { return 6 }", "u"], "6"),
    "a function can be wrapped": (["function fib(x) { calls++; return x < 2 ? x : fib(x - 1) + fib(x - 2) }\nlet calls = 0; const memo = {}", "const plain = fib; fib = (x) => memo[x] ??= plain(x); fib(20); calls"], "21"),
    "after await": (["const aa = await Promise.resolve(1); function bb() { return aa }", "let { cc } = { cc: await bb() }; cc"], "1"),
    "strict functions": (["'use strict'; function dd() { return this === undefined }", "dd()"], "true"),
    "names of functions": (["const ee = () => {}; function ff() {} class gg {}", "[ee.name, ff.name, gg.name]"], "[ 'ee', 'ff', 'gg' ]"),
    "a name of the engine's": (["const crypto = require('node:crypto'); const process = require('process')", "[typeof crypto.createHash, typeof process.exit]"], "[ 'function', 'function' ]"),
    "the last value": (["({ a: 1 })", "console.log('between')", "_.a + _.a"], "2"),
    "an own underscore": (["const _ = { own: 1 }; 5", "_"], "{ own: 1 }"),
    "exports are declarations": (["export const hh = 1; export function ii() { return 2 } export { hh as jj }; export default class KK {}", "[hh, ii(), KK.name]"], "[ 1, 2, 'KK' ]"),
    "default export of a value": (["export default { a: 1 }", "1"], "1"),
    "closures see what is declared again": (["let ll = 1; const mm = () => ll", "let ll = 2", "mm()"], "2"),
    "a failed declaration can be repeated": (["const nn = missing()", "const nn = 1; nn"], "1"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_declarations_outlive_their_cell_and_can_be_repeated(name, node, shared, tmp_path):
    codes, text = CONVERSATIONS[name]
    own = name in ("an own underscore", "a name of the engine's")
    session = LiveNode(node, tmp_path / "workspace") if own else shared
    replies = [session.run(code) for code in codes]
    assert replies[-1].text == text
    if own:
        session.close()


FILES = {
    "own.mjs": "export const one = 1; export default 'own'; export const here = import.meta.url",
    "plain.cjs": "exports.two = 2; exports.main = require.main === module",
    "data.json": '{"three": 3}',
    "node_modules/pack/package.json": '{"name": "pack", "type": "module", "exports": "./index.js"}',
    "node_modules/pack/index.js": "export const four = 4",
}

IMPORTS = {
    "default": ("import fs from 'node:fs'; typeof fs.readFileSync", "'function'"),
    "named with an alias": ("import { sep as separator, join } from 'path'\nseparator + typeof join", "'/function'"),
    "namespace": ("import * as os from 'os'; typeof os.cpus", "'function'"),
    "both kinds": ("import def, { one } from './own.mjs'; [def, one]", "[ 'own', 1 ]"),
    "side effect": ("import './own.mjs'; 1", "1"),
    "text as a name": ("import { 'one' as eins } from './own.mjs'; eins", "1"),
    "after its use": ("const early = one2; import { one as one2 } from './own.mjs'; early", "1"),
    "of CommonJS": ("import plain, { two } from './plain.cjs'; [plain.two, two]", "[ 2, 2 ]"),
    "of a package": ("import { four } from 'pack'; four", "4"),
    "with attributes": ("import data from './data.json' with { type: 'json' }; data.three", "3"),
    "dynamic": ("(await import('./own.mjs')).default", "'own'"),
    "dynamic in a function": ("const load = async () => (await import('pack')).four; await load()", "4"),
    "in a text": ("`import x from 'y'` + \"import('z')\"", "\"import x from 'y'import('z')\""),
    "required": ("const { two: zwei } = require('./plain.cjs'); const fs2 = require('fs'); [zwei, typeof fs2.statSync]", "[ 2, 'function' ]"),
    "required data": ("require('./data.json').three", "3"),
    "main module": ("[require.main === module, require('./plain.cjs').main]", "[ true, false ]"),
    "names of a file": ("[__dirname === process.cwd(), __filename === require('path').join(__dirname, 'cell.js'), typeof exports]", "[ true, true, 'object' ]"),
    "import.meta": ("[import.meta.url.startsWith('file:///'), import.meta.dirname === __dirname]", "[ true, true ]"),
}  # fmt: skip


@pytest.mark.parametrize("name", IMPORTS)
def test_modules_of_all_kinds_are_found_from_the_workspace(name, shared):
    for file, text in FILES.items():
        place = shared.folder / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    code, text = IMPORTS[name]
    if "with {" in code and shared.run("process.versions.node.split('.')[0] < 20").text == "true":
        pytest.skip("this Node.js knows no attributes")
    reply = shared.run(code)
    assert (reply.code, reply.text, reply.stderr) == (0, text, "")


DATA = {
    "array": ("[1, 'a', null, true, { b: [] }]", [1, "a", None, True, {"b": []}]),
    "number": ("1.5", 1.5),
    "null": ("null", None),
    "function within": ("[() => 1]", "none"),
    "not a number": ("NaN", "none"),
    "hole": ("[, 1]", "none"),
    "undefined within": ("({ a: undefined })", "none"),
    "date": ("new Date(0)", "none"),
    "getter": ("({ get a() { return 1 } })", "none"),
    "circle": ("const circle = {}; circle.circle = circle", "none"),
    "big": ("1n", "none"),
    "long": ("Array(30_000).fill(1)", "none"),
}


@pytest.mark.parametrize("name", DATA)
def test_plain_data_is_given_as_json_too(name, shared):
    code, data = DATA[name]
    result = shared.run(code).result
    assert result is not None
    assert result.get("application/json", "none") == data


def test_a_long_value_is_cut(shared):
    reply = shared.run("'x'.repeat(5e6)")
    assert reply.result is not None
    assert len(reply.result["text/plain"]) == 100_000
    assert list(reply.result) == ["text/plain"]


def test_a_large_listener_is_only_named(shared):
    assert shared.run("require('net').createServer()").text == "[Server]"


ERRORS = {
    "thrown": ("let x = 1\nfunction bad() {\n  throw new TypeError('boom')\n}\nbad()", "cell {n}:3\n  throw new TypeError('boom')\n        ^\n\nTypeError: boom\n    at bad (cell {n}:3:9)\n    at cell {n}:5:1\n"),
    "thrown after an await": ("await 0\n  null.x", "cell {n}:2\n  null.x\n       ^\n\nTypeError: Cannot read properties of null (reading 'x')\n    at cell {n}:2:8\n"),
    "thrown in the first line that awaits": ("await nope()", "cell {n}:1\nawait nope()\n^\n\nReferenceError: nope is not defined\n    at cell {n}:1:1\n"),
    "no error": ("throw { a: 1 }", "Uncaught {{ a: 1 }}\n"),
    "syntax": ("let y = ;", "cell {n}:1\nlet y = ;\n        ^\n\nSyntaxError: Unexpected token ';'\n"),
    "with properties": ("throw Object.assign(new Error('x'), { code: 3 })", "cell {n}:1\nthrow Object.assign(new Error('x'), {{ code: 3 }})\n                    ^\n\nError: x\n    at cell {n}:1:21 {{\n  code: 3\n}}\n"),
    "rejected": ("Promise.reject(new Error('lost'))", "cell {n}:1\nPromise.reject(new Error('lost'))\n               ^\n\nError: lost\n    at cell {n}:1:16\n"),
    "export that there is not": ("import { nope } from 'fs'", "SyntaxError: The requested module 'fs' does not provide an export named 'nope'\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_an_uncaught_error_is_printed_with_the_users_own_lines(name, session):
    code, printed = ERRORS[name]
    reply = session.run(code)
    assert (reply.code, reply.result, reply.stderr) == (1, None, printed.format(n=1))


PARTS_OF_ERRORS = {
    "timer": ("setTimeout(() => { throw new Error('late') }, 1)", "Error: late\n    at Timeout._onTimeout (cell 1:1:26)"),
    "rejected text": ("Promise.reject('lost')", 'was not handled with .catch(). The promise rejected with the reason "lost".'),
    "module that there is not": ("import x from 'nowhere'", "Cannot find package 'nowhere' imported from "),
    "required, and not there": ("require('nowhere')", "Error: Cannot find module 'nowhere'\nRequire stack:\n- "),
    "syntax beside an await": ("await 1\nlet x = ;", "cell 1:2\nlet x = ;\n        ^\n\nSyntaxError: Unexpected token\n"),
    "syntax beside an import": ("import fs from 'fs'\nlet x = ;", "cell 1:2\nlet x = ;\n        ^\n\nSyntaxError: Unexpected token"),
    "cause": ("throw new Error('outer', { cause: new TypeError('inner') })", "[cause]: TypeError: inner\n      at cell 1:1:35"),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS_OF_ERRORS)
def test_an_uncaught_error_fails_its_cell_and_no_other(name, session):
    code, part = PARTS_OF_ERRORS[name]
    reply = session.run(code)
    assert reply.code == 1
    assert part in reply.stderr
    assert "session.cjs" not in reply.stderr
    assert session.run("'next'").text == "'next'"


def test_what_was_assigned_before_an_error_stays(session):
    assert session.run("let before = 1; before = 2; throw 1; let after = 3").code == 1
    assert session.run("[before, typeof after]").text == "[ 2, 'undefined' ]"


def test_a_caught_errors_stack_names_no_file_of_the_interpreter(session):
    reply = session.run("function f() { return new Error('x').stack }\nf()")
    assert "session.cjs" not in reply.text
    assert "at f (cell 1:1:23)" in reply.text


def test_a_programs_own_handler_gets_uncaught_errors(session):
    reply = session.run(
        "process.on('uncaughtException', (e) => console.log('own', e.message)); setTimeout(() => null.x, 1)"
    )
    assert (reply.code, reply.stderr) == (0, "")
    assert reply.stdout.startswith("own Cannot read")


def test_the_exit_code_that_a_cell_sets_is_its_own(session):
    assert session.run("process.exitCode = 3; undefined").code == 3
    assert session.run("1").code == 0


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("setTimeout(() => console.log('late'), 20); console.log('early')", "early\nlate\n"),
        ("const timer = setInterval(() => { console.log('tick'); clearInterval(timer) }, 1)", "tick\n"),
        ("new Promise((r) => setImmediate(r)).then(() => console.log('then'))", "then\n"),
        ("require('child_process').exec('echo child', (e, out) => process.stdout.write(out))", "child\n"),
        ("const w = new (require('worker_threads').Worker)('console.log(`worker`)', { eval: true })", "worker\n"),
        ("require('fs').readFile(__dirname, (e) => console.log(e.code))", "EISDIR\n"),
        ("setTimeout(() => console.log('never'), 1e6).unref()", ""),
    ],
)
def test_a_cell_ends_when_nothing_that_it_began_is_left_to_happen(code, printed, shared):
    reply = shared.run(code)
    assert (reply.code, reply.stdout, reply.stderr) == (0, printed, "")


def test_all_that_is_written_comes_before_the_reply(session):
    reply = session.run(f"console.log('x'.repeat({MUCH})); console.error('y'.repeat({MUCH}))")
    assert (len(reply.stdout), len(reply.stderr)) == (MUCH + 1, MUCH + 1)


def test_arguments_are_the_cells_and_variables_stay(session):
    assert session.run("process.argv.slice(2)", args=["a", "b"], env={"GIVEN": "1"}).text == "[ 'a', 'b' ]"
    assert session.run("[process.argv.length, process.env.GIVEN, process.execArgv]").text == "[ 2, '1', [] ]"


READERS = {
    "all at once": "require('fs').readFileSync(0, 'utf8')",
    "as a stream": "let t = ''; process.stdin.setEncoding('utf8'); for await (const part of process.stdin) t += part; t",
    "by lines": "let u = ''; for await (const line of require('readline').createInterface({ input: process.stdin })) u += line + '\\n'; u",
    "by events": "let v = ''; process.stdin.on('data', (d) => v += d); await new Promise((r) => process.stdin.on('end', r)); v",
    "by a child": "require('child_process').execSync('cat', { stdio: ['inherit', 'pipe', 'inherit'] }).toString()",
}


@pytest.mark.parametrize("name", READERS)
def test_each_cell_reads_its_own_input(name, session):
    for text in ("one\ntwo\n", "three\n"):
        pipe = InputPipe(session.folder / "input")
        reply = session.run(READERS[name], stdin=str(pipe.path), during=lambda _, pipe=pipe, text=text: pipe.give(text))
        assert (reply.code, reply.text) == (0, repr(text))
    file = session.folder / "file"
    file.write_text("four\n")
    assert session.run(READERS[name], stdin=str(file)).text == repr("four\n")
    assert session.run(READERS[name]).text == "''"


def test_a_cell_reads_its_input_by_path(session):
    (session.folder / "file").write_text("four\n")
    reply = session.run("require('fs').readFileSync('/dev/stdin', 'utf8')", stdin=str(session.folder / "file"))
    assert reply.text == repr("four\n")


def test_a_question_is_answered_while_the_cell_runs(session):
    pipe = InputPipe(session.folder / "input")

    def answer(session: LiveNode) -> None:
        session.read_stdout("name? ")
        pipe.give("bob\n")

    code = "const rl = require('readline/promises').createInterface({ input: process.stdin, output: process.stdout })\nconst name = await rl.question('name? '); rl.close(); name"
    assert session.run(code, stdin=str(pipe.path), during=answer).text == "'bob'"


def test_input_that_nobody_reads_keeps_no_cell_running(session):
    pipe = InputPipe(session.folder / "input")
    assert session.run("process.stdin.pause(); 1", stdin=str(pipe.path)).code == 0
    pipe.give("")


class InputPipe:
    """A named pipe with its writer, as a session's sandbox makes one for a cell."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        both = os.open(path, os.O_RDWR)
        self._writer = os.open(path, os.O_WRONLY)
        os.close(both)

    def give(self, text: str) -> None:
        """Write ``text`` once somebody reads, and end."""
        assert until(self._is_open)
        os.write(self._writer, text.encode())
        os.close(self._writer)

    def _is_open(self) -> bool:
        poll = select.poll()
        poll.register(self._writer, 0)
        return not poll.poll(0)


BUSY = {
    "loop": "while (true) {}",
    "loop that catches": "for (;;) try { while (true) {} } catch {} finally {}",
    "loop after an await": "await 0; while (true) {}",
    "loop in a timer": "setTimeout(() => { console.log('go'); while (true) {} }, 1)",
    "loop of microtasks": "(async () => { while (true) await null })()",
    "loop of ticks": "(function tick() { process.nextTick(tick) })()",
    "loop of immediates": "(function turn() { setImmediate(turn) })()",
    "regular expression": "/(a+)+b/.test('a'.repeat(40))",
    "promise of nothing": "await new Promise(() => {})",
    "timer": "await new Promise((r) => setTimeout(r, 1e6))",
    "interval": "setInterval(() => {}, 1e6)",
    "server": "require('net').createServer().listen(0, '127.0.0.1'); undefined",
    "sleep": "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)",
    "child": "require('child_process').execSync('sleep 1000')",
    "child that is awaited": "require('child_process').spawn('sleep', ['1000']); undefined",
}


def announced(code: str) -> str:
    """``code`` that prints "go" when it is busy, or is about to be."""
    return code if "go" in code else f"console.log('go'); {code}"


@pytest.mark.parametrize("name", BUSY)
def test_an_interrupt_ends_a_cell_whatever_it_does_and_variables_stay(name, session):
    def interrupt(session: LiveNode) -> None:
        session.read_stdout("go\n")
        session.interrupt()

    reply = session.run(f"let kept = 41; {announced(BUSY[name])}", during=interrupt)
    assert (reply.code, reply.result) == (130, None)
    assert reply.stderr == "Interrupted: SIGINT ended this cell; its variables are kept\n"
    reply = session.run("await new Promise((r) => setTimeout(r, 5)); console.log('on'); kept + 1")
    assert (reply.code, reply.text, reply.stdout, reply.stderr) == (0, "42", "on\n", "")
    assert session.end() == 0


def test_a_child_that_somebody_else_interrupted_is_an_error_like_any(session):
    reply = session.run("require('child_process').execSync('kill -INT $$')")
    assert (reply.code, "Error: Command failed" in reply.stderr) == (1, True)
    assert session.end() == 0


def test_an_interrupt_ends_a_cell_that_waits_for_input(session):
    def interrupt(session: LiveNode) -> None:
        session.read_stdout("go\n")
        session.interrupt()

    pipe = InputPipe(session.folder / "input")
    reply = session.run("console.log('go'); require('fs').readFileSync(0)", stdin=str(pipe.path), during=interrupt)
    assert reply.code == 130
    assert session.run("require('fs').readFileSync(0, 'utf8')").text == "''"


def test_a_second_interrupt_works_as_the_first(session):
    for _ in range(3):
        reply = session.run(
            "console.log('go'); while (true) {}", during=lambda s: (s.read_stdout("go\n"), s.interrupt())
        )
        assert reply.code == 130


def test_an_interrupt_between_cells_does_nothing(session):
    for number in range(5):
        session.interrupt()
        assert until(lambda: is_asleep(session))
        assert session.run(f"let n = {number}; n").text == str(number)


def is_asleep(session: LiveNode) -> bool:
    """Whether all of its threads wait, so that a signal was dealt with."""
    return all("State:\tS" in (task / "status").read_text() for task in Path(f"/proc/{session.pid}/task").iterdir())


def test_what_an_interrupted_cell_left_running_goes_on_in_later_cells(session):
    reply = session.run(
        "let ticks = 0; const i = setInterval(() => ticks++, 1); console.log('go')",
        during=lambda s: (s.read_stdout("go\n"), s.interrupt()),
    )
    assert reply.code == 130
    assert session.run("const seen = ticks; await new Promise((r) => setTimeout(r, 20)); ticks > seen").text == "true"
    assert session.run("clearInterval(i); ticks = 0; await new Promise((r) => setTimeout(r, 20)); ticks").text == "0"


def test_a_handler_of_the_programs_does_not_keep_an_interrupt_from_ending_a_cell(session):
    session.run("process.on('SIGINT', () => console.log('own')); undefined")
    reply = session.run("console.log('go'); while (true) {}", during=lambda s: (s.read_stdout("go\n"), s.interrupt()))
    assert (reply.code, reply.stdout) == (130, "")


MISCHIEF = {
    "outputs closed": "require('fs').closeSync(1); require('fs').closeSync(2)",
    "outputs replaced by a file": "const fs = require('fs'); fs.closeSync(1); fs.openSync('file', 'w')",
    "all standard descriptors closed": "for (const d of [0, 1, 2]) require('fs').closeSync(d)",
    "streams ended": "process.stdout.end(); process.stderr.end(); undefined",
    "streams destroyed": "process.stdout.destroy(); process.stderr.destroy(new Error('x')); undefined",
    "writes replaced": "process.stdout.write = () => true; process.stderr.write = () => true; undefined",
    "streams replaced": "for (const name of ['stdout', 'stderr', 'stdin']) Object.defineProperty(process, name, { configurable: true, value: 1 }); undefined",
    "console emptied": "for (const name of Object.keys(console)) console[name] = () => {}",
    "console replaced": "globalThis.console = undefined",
    "listeners removed": "process.removeAllListeners(); undefined",
    "a listener of the end": "process.on('beforeExit', () => {}); undefined",
    "an end that fails": "process.once('beforeExit', () => { throw new Error('end') }); undefined",
    "text of JSON replaced": "JSON.stringify = JSON.parse = null; undefined",
    "the folder left": "process.chdir('/')",
    "the input's stream destroyed": "process.stdin.destroy(); undefined",
    "errors without stacks": "Error.prepareStackTrace = () => 1; Error.stackTraceLimit = 0; undefined",
    "an odd value": "new Proxy({}, { get() { throw new Error('no') }, ownKeys() { throw new Error('no') } }); undefined",
    "inspection that fails": "({ [require('util').inspect.custom]() { throw new Error('no') } })",
    "a rejected promise of nothing": "Promise.reject()",
    "bytes that are no text": "process.stdout.write(Buffer.from([255, 254])); '\\ud800'",
}  # fmt: skip


@pytest.mark.parametrize("name", MISCHIEF)
def test_what_a_cell_did_to_its_interpreter_does_not_break_the_next(name, session):
    assert session.run(f"let kept = 1; {MISCHIEF[name]}").code is not None
    reply = session.run("console.log('out'); console.error('err'); process.stdout.write('more\\n'); kept")
    assert (reply.code, reply.text, reply.stdout, reply.stderr) == (0, "1", "out\nmore\n", "err\n")


def test_exit_ends_the_interpreter_with_the_programs_code(session):
    reply = session.run(
        "process.on('exit', (code) => console.log('exit', code)); console.log('x'.repeat(10)); process.exit(4)"
    )
    assert (reply.code, reply.stdout) == (None, "xxxxxxxxxx\nexit 4\n")
    assert session.wait() == 4


def test_the_end_of_the_channel_ends_the_interpreter(session):
    session.run("setInterval(() => {}, 1e6).unref(); 1")
    assert session.end() == 0


def test_a_program_meets_few_names_of_ours(session):
    text = session.run("Object.keys(globalThis).filter((name) => /import|codex|cell/i.test(name))").text
    assert text == "[]"


TYPESCRIPT = {
    "types": (["const a: number = 5; interface P { a: string }\nfunction id<T>(v: T): T { return v }", "let a: string = 'b'; id<P>({ a })"], "{ a: 'b' }"),
    "type of a value": (["type Q = { q: number }; const q = { q: 1 } satisfies Q", "q as Q"], "{ q: 1 }"),
    "enum": (["enum Level { Low = 1, High }", "[Level.High, Level[1]]"], "[ 2, 'Low' ]"),
    "namespace": (["namespace N { export const x = 3 }", "N.x"], "3"),
    "parameter properties": (["class A { constructor(private n: number, readonly m = 2) {} get() { return this.n + this.m } }", "new A(1).get()"], "3"),
    "await": (["const w: string = (await Promise.resolve('w')) as string", "w"], "'w'"),
    "types imported like values": (["import { Shape, area, Kind } from './shapes'; const s: Shape = { r: 3 }", "[area(s), Kind.A]"], "[ 9, 'a' ]"),
    "imports for later": (["import { readFileSync } from 'fs'; import type { Stats } from 'fs'", "typeof readFileSync"], "'function'"),
    "require after a module": (["import { area } from './shapes'", "[typeof require('path').join, typeof module, typeof __dirname]"], "[ 'function', 'object', 'string' ]"),
    "import by require": (["import path = require('path')", "path.sep"], "'/'"),
}  # fmt: skip
SHAPES = (
    "export interface Shape { r: number }\nexport enum Kind { A = 'a' }\nexport const area = (s: Shape) => s.r ** 2"
)


@pytest.mark.parametrize("name", TYPESCRIPT)
def test_typescript_is_a_language_of_sessions(name, shared_typescript):
    (shared_typescript.folder / "shapes.ts").write_text(SHAPES)
    codes, text = TYPESCRIPT[name]
    for code in codes[:-1]:
        assert shared_typescript.run(code).stderr == ""
    assert shared_typescript.run(codes[-1]).text == text


TYPESCRIPT_ERRORS = {
    "erased": ("const n: number = 1\n\n  null!.x", "cell 1:3\n  null!.x\n        ^\n\nTypeError: Cannot read"),
    "translated": ("enum E { A = 1,\n  B }\n\nfunction f(): never {\n  throw new Error('e' + E.A)\n}\nf()", "cell 1:5\n  throw new Error('e' + E.A)\n        ^\n\nError: e1\n    at f (cell 1:5:9)\n"),
    "no TypeScript": ("let bad: = 3", "cell 1:1\nlet bad: = 3\n         ^\n\nSyntaxError"),
    "decorators without their compiler": ("@d class A {}", "the package typescript, which is not installed here"),
}  # fmt: skip


@pytest.mark.parametrize("name", TYPESCRIPT_ERRORS)
def test_errors_of_typescript_name_the_users_own_lines(name, typescript_node, tmp_path):
    code, part = TYPESCRIPT_ERRORS[name]
    session = LiveNode(typescript_node, tmp_path / "workspace", "typescript")
    reply = session.run(code)
    session.close()
    assert reply.code == 1
    assert part in reply.stderr
