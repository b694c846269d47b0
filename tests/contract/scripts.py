"""What JavaScript, TypeScript, Bash and a language that is only a command expect."""

from codex_server.model import Status
from tests.contract.case import Case, only


def _js(name: str, source: str, *ending: object, **expected: object) -> Case:
    return Case(f"javascript_{name}", only("javascript", source), *ending, **expected)  # type: ignore[arg-type]


def _ts(name: str, source: str, *ending: object, **expected: object) -> Case:
    return Case(f"typescript_{name}", only("typescript", source), *ending, **expected)  # type: ignore[arg-type]


def _bash(name: str, source: str, *ending: object, **expected: object) -> Case:
    return Case(f"bash_{name}", only("bash", source), *ending, **expected)  # type: ignore[arg-type]


SQL = [
    Case(
        "sql_prints_the_rows_of_its_last_statement",
        only("sql", "CREATE TABLE t(a); INSERT INTO t VALUES (1), (2); SELECT sum(a) AS sum FROM t;"),
        stdout='{"columns": ["sum"], "rows": [[3]], "row_count": 1, "truncated": false}\n',
        args=('{"database": ":memory:"}',),
    ),
    Case(
        "sql_fails_with_one_line",
        only("sql", "SELECT * FROM absent"),
        Status.FAILED,
        1,
        stdout="",
        stderr="Error: no such table: absent\n",
    ),
]

JAVASCRIPT = [
    _js(
        "has_commonjs",
        """
        const path = require('path');
        console.log(typeof require, typeof module.exports, path.basename(__filename), require.main === module);
        """,
        stdout="function object main.js true\n",
    ),
    _js(
        "has_es_modules_and_top_level_await",
        """
        import { readFileSync } from 'node:fs';
        import path from 'node:path';
        const answer = await new Promise((resolve) => setTimeout(() => resolve(42), 10));
        console.log(answer, typeof readFileSync, path.basename(import.meta.url));
        """,
        stdout="42 function main.js\n",
    ),
    _js("imports_at_run_time", "import('node:os').then((os) => console.log(os.EOL === '\\n'))", stdout="true\n"),
    _js(
        "requires_a_module_it_was_given",
        "console.log(require('./mine').answer)",
        files={"mine.js": b"exports.answer = 42\n"},
        stdout="42\n",
    ),
    _js(
        "runs_timers_and_promises_in_order",
        """
        setImmediate(() => {
            console.log('immediate');
            setTimeout(() => console.log('timeout'), 1);
        });
        Promise.resolve().then(() => console.log('promise'));
        process.nextTick(() => console.log('tick'));
        console.log('now');
        """,
        stdout="now\ntick\npromise\nimmediate\ntimeout\n",
    ),
    _js(
        "mixes_modules_of_both_kinds",
        "const path = require('path'); console.log(await Promise.resolve(path.basename(__filename)))",
        stdout="main.js\n",
    ),
    _js(
        "runs_exit_handlers",
        """
        process.on('beforeExit', () => console.log('before'));
        process.on('exit', (code) => console.log('exit', code));
        process.exitCode = 4;
        """,
        Status.FAILED,
        4,
        stdout="before\nexit 4\n",
    ),
    _js(
        "ends_with_a_stack_of_its_own_lines",
        "\n\nfunction fail() {\n  throw new TypeError('boom')\n}\n\nfail()\n",
        Status.FAILED,
        1,
        stderr="TypeError: boom\n    at fail (",
    ),
    _js("names_the_user_s_line", "\n\nthrow new Error('boom')", Status.FAILED, 1, stderr="main.js:2"),
    _js("tells_of_a_syntax_error", "console.log('a'\nlet", Status.FAILED, 1, stdout="", stderr="SyntaxError"),
    _js(
        "fails_on_an_unhandled_rejection",
        "Promise.reject(new Error('nobody cares'))",
        Status.FAILED,
        1,
        stderr="nobody cares",
    ),
    _js("warns_of_an_await_that_never_ends", "await new Promise(() => {})", Status.FAILED, 13, stderr=None),
    _js("recurses_until_it_is_stopped", "(function f() { f() })()", Status.FAILED, 1, stderr="RangeError"),
    _js("speaks_every_script", "console.log('grüße, 日本, 😀', '😀'.length)", stdout="grüße, 日本, 😀 2\n"),
    _js(
        "prints_bytes_that_are_no_text",
        "process.stdout.write(Buffer.from([97, 255, 254, 98]))",
        stdout="a\ufffd\ufffdb",
    ),
    _js("prints_all_before_it_exits", "process.stdout.write('x'.repeat(60000)); process.exit(0)", stdout="x" * 60000),
    _js(
        "starts_processes_and_workers",
        """
        const { execFileSync } = require('child_process');
        const { Worker } = require('worker_threads');
        console.log(execFileSync(process.execPath, ['-e', 'console.log(1 + 1)']).toString().trim());
        new Worker("require('worker_threads').parentPort.postMessage(3)", { eval: true }).on('message', console.log);
        """,
        stdout="2\n3\n",
    ),
    _js(
        "serves_itself_over_its_own_loopback",
        """
        const server = require('http').createServer((_, response) => response.end('hello'));
        server.listen(0, '127.0.0.1', async () => {
          const answer = await fetch(`http://127.0.0.1:${server.address().port}/`);
          console.log(await answer.text());
          server.close();
          server.closeAllConnections();
        });
        """,
        stdout="hello\n",
        levels=("full", "namespaces"),
    ),
    _js(
        "has_no_agent_in_sight",
        "console.log(process.argv.length, process.execArgv.length, Object.keys(require.cache).length)",
        stdout="2 0 1\n",
    ),
    _js(
        "has_strict_mode_only_when_it_asks",
        "console.log((function () { return this === globalThis })())",
        stdout="true\n",
    ),
    _ts(
        "has_more_than_types",
        """
        import { Kind, type Thing } from './kind';
        import fs = require('fs');
        class Named implements Thing { constructor(readonly kind: Kind) {} }
        console.log(new Named(Kind.Small).kind, typeof fs.readFileSync);
        """,
        files={"kind.ts": b"export enum Kind { Small = 's' }\nexport interface Thing { kind: Kind }\n"},
        stdout="s function\n",
    ),
    _ts(
        "strips_types",
        """
        interface Point { x: number }
        type Name = 'a' | 'b';
        const point: Point = { x: 1 };
        function show<T extends Point>(value: T, name?: Name): string { return `${name ?? 'b'}${value.x}`; }
        console.log(show(point as Point));
        """,
        stdout="b1\n",
    ),
    _ts(
        "has_es_modules_and_top_level_await",
        """
        import type { Stats } from 'node:fs';
        import { statSync } from 'node:fs';
        const here: Stats = await Promise.resolve(statSync('.'));
        console.log(here.isDirectory());
        """,
        stdout="true\n",
    ),
    _ts(
        "keeps_the_user_s_lines",
        "type A = number;\n\nthrow new Error('boom' as string)",
        Status.FAILED,
        1,
        stderr="main.ts:3",
    ),
]

BASH = [
    _bash("pipes", "printf 'b\\na\\nc\\n' | sort | head -n 2 | tr '\\n' ' '", stdout="a b "),
    _bash("has_the_code_of_the_last_command", "true; false", Status.FAILED, 1),
    _bash("has_the_code_of_a_failed_pipe", "set -o pipefail; false | true", Status.FAILED, 1),
    _bash(
        "has_the_code_of_a_command_that_is_not_there",
        "no-such-command",
        Status.FAILED,
        127,
        stderr="no-such-command: command not found",
    ),
    _bash("stops_at_the_first_error_when_told", "set -e; echo a; false; echo b", Status.FAILED, 1, stdout="a\n"),
    _bash(
        "runs_traps",
        "trap 'echo bye; exit 5' EXIT; trap 'echo term' TERM; kill -TERM $$; echo end",
        Status.FAILED,
        5,
        stdout="term\nend\nbye\n",
    ),
    _bash(
        "has_arrays_arithmetic_and_functions",
        'f() { local -a a=(1 2 3); echo $((a[0] + a[2] * 7)) "${#a[@]}"; }; f',
        stdout="22 3\n",
    ),
    _bash("has_here_documents", "cat <<END\n$((1 + 1)) grüße\nEND\n", stdout="2 grüße\n"),
    _bash(
        "waits_for_its_jobs",
        "for i in 1 2 3; do (exit $i) & done; wait %1; echo $?; wait; echo done",
        stdout="1\ndone\n",
        stderr=None,
    ),
    _bash("substitutes_processes", "diff <(echo a) <(echo a) && echo same", stdout="same\n"),
    _bash(
        "reads_the_line_ends_of_windows",
        "\ufeffset -e\r\nif true; then\r\n  cat <<END\r\na\r\nEND\r\nfi\r\n",
        stdout="a\n",
    ),
    _bash(
        "asks_what_a_terminal_can_do",
        "set -e; clear >clear; tput sgr0 >>clear; rm clear; echo $TERM",
        stdout="xterm\n",
    ),
    _bash(
        "installs_no_packages",
        "for tool in pip pip3 npm npx corepack yarn pnpm apt apt-get; do $tool install x && echo $tool; done; true",
        stdout="",
        stderr="npx: no package installation here: a program has no network",
    ),
    _bash("names_the_user_s_line", "\n\nif then", Status.FAILED, 2, stderr="line 2"),
    _bash("tells_a_child_s_signal_as_a_code", "sh -c 'kill -9 $$'; echo $?", stdout="137\n", stderr=None),
    _bash(
        "stands_in_the_workspace",
        'ls; [ -w . ] && echo writable; cd "$TMPDIR" && : > t && echo "$0" | sed s,.*/,,',
        stdout="main.sh\nwritable\nmain.sh\n",
    ),
    _bash(
        "writes_to_its_output_by_name",
        "echo a > /dev/stdout; echo b > /dev/stderr",
        stdout="a\n",
        stderr="b\n",
        levels=("full",),
    ),
]

PERL = [
    Case(
        "perl_dies", only("perl", 'print "a\\n"; die "no luck\\n";'), Status.FAILED, 255, stdout="a\n", stderr="no luck"
    ),
    Case("perl_names_the_user_s_line", only("perl", "\n\ndie 'here'"), Status.FAILED, 255, stderr="main.pl line 2"),
    Case("perl_starts_commands", only("perl", "print `echo hello`; print $? >> 8, qq(\\n);"), stdout="hello\n0\n"),
]

CASES = [*JAVASCRIPT, *BASH, *SQL, *PERL]
