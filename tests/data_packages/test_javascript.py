"""The real JavaScript packages at each isolation level, by ``require`` and by ``import``."""

import json
from pathlib import Path

import pytest

from codex_server.languages import Languages
from codex_server.model import Outcome
from tests.contract.harness import Harness
from tests.levels import out_of_reach

pytestmark = pytest.mark.tier("change")

ASKED = json.loads((Path(__file__).parents[2] / "runners" / "javascript" / "package.json").read_text())["dependencies"]
PROGRAMS = {
    "lodash_groups": (
        "const _ = require('lodash'); console.log(JSON.stringify(_.groupBy([1, 2, 3], (n) => n % 2)))",
        '{"0":[2],"1":[1,3]}\n',
    ),
    "mathjs_calculates": ("const { evaluate } = require('mathjs'); console.log(evaluate('sqrt(16) + 2 ^ 3'))", "12\n"),
    "modules_are_imported_by_name": (
        "import dayjs from 'dayjs'; import { add } from 'mathjs'; import _ from 'lodash'; import { z } from 'zod';\n"
        "console.log(dayjs('2026-01-31').add(1, 'month').format('YYYY-MM-DD'), add(1, 2), _.sum([1, 2]), "
        "z.number().parse(4))",
        "2026-02-28 3 3 4\n",
    ),
    "a_dynamic_import_finds_them": ("import('lodash').then((m) => console.log(m.default.chunk([1, 2, 3], 2)))", None),
    "pages_and_tables_are_read": (
        "const cheerio = require('cheerio'), Papa = require('papaparse'), { parse } = require('csv-parse/sync');\n"
        "console.log(cheerio.load('<p>soup</p>')('p').text(), Papa.parse('a,b\\n1,2').data[1].join(), "
        "parse('x\\n7', { columns: true })[0].x)",
        "soup 1,2 7\n",
    ),
    "a_child_process_finds_them": (
        "console.log(require('child_process').execFileSync(process.execPath, ['-p', 'require(\"lodash\").VERSION'], "
        "{ encoding: 'utf8' }).split('.').length)",
        "3\n",
    ),
    "a_worker_thread_finds_them": (
        "const { Worker } = require('worker_threads');\n"
        'new Worker(\'require("worker_threads").parentPort.postMessage(typeof require("lodash"))\', { eval: true })'
        ".on('message', (m) => console.log(m))",
        "function\n",
    ),
    "nothing_can_be_changed_there": (
        "const fs = require('fs'), path = require('path'), folder = path.dirname(require.resolve('lodash'));\n"
        "for (const act of [() => fs.writeFileSync(path.join(folder, 'new.js'), ''), "
        "() => fs.rmSync(path.join(folder, 'lodash.js'))])\n"
        "  try { act(); console.log('done') } catch (e) { console.log('no') }",
        "no\nno\n",
    ),
    "a_module_that_is_not_there_is_told_as_ever": (
        "try { require('left-pad') } catch (e) { console.log(e.code) }",
        "MODULE_NOT_FOUND\n",
    ),
}


def run(harness: Harness, language: str, code: str, **given: object) -> Outcome:
    outcome = harness.run(language, code, **given)
    assert (outcome.stderr.text, outcome.exit_code) == ("", 0)
    return outcome


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_does_with_the_packages_what_it_should(name: str, harness: Harness) -> None:
    code, printed = PROGRAMS[name]
    assert run(harness, "javascript", code).stdout.text == (printed or "[ [ 1, 2 ], [ 3 ] ]\n")


def test_every_package_is_required_and_imported(harness: Harness) -> None:
    code = f"""
    const names = {json.dumps(list(ASKED))};
    (async () => {{
      for (const name of names) {{
        const one = require(name), other = await import(name);
        const version = JSON.parse(require('fs').readFileSync(find(name))).version;
        console.log(name, version, [typeof one, typeof other].includes('undefined') ? 'missing' : 'there');
      }}
    }})();
    function find(name) {{
      for (const place of module.paths) {{
        const file = require('path').join(place, name, 'package.json');
        if (require('fs').existsSync(file)) return file;
      }}
    }}
    """
    expected = [f"{name} {version} there" for name, version in ASKED.items()]
    assert run(harness, "javascript", code, limits={"wall_seconds": 30}).stdout.text.splitlines() == expected


def test_typescript_has_the_same(harness: Harness) -> None:
    if not harness.languages.find("javascript").packages or not harness.languages.find("typescript").available:
        out_of_reach("languages", "this Node.js cannot strip types")
    code = "import _ from 'lodash'; const parts: number[][] = _.chunk([1, 2, 3], 2); console.log(parts.length)"
    assert run(harness, "typescript", code).stdout.text == "2\n"


def test_what_the_workspace_brings_goes_first(harness: Harness) -> None:
    brought = {"node_modules/lodash/index.js": b"module.exports = 'mine'", "dayjs.js": b"module.exports = 'a file'"}
    code = "console.log(require('lodash'), require('./dayjs'), typeof require('dayjs'), typeof require('mathjs').add)"
    assert run(harness, "javascript", code, files=brought).stdout.text == "mine a file function function\n"


def test_the_packages_are_no_files_of_the_program(harness: Harness) -> None:
    outcome = run(harness, "javascript", "require('lodash'); console.log(require('fs').readdirSync('.'))")
    assert (outcome.stdout.text, outcome.ending.files) == ("[ 'main.js' ]\n", ())


def test_a_guest_learns_no_path_of_the_host_from_them(harness: Harness) -> None:
    if harness.name.endswith("confined"):
        pytest.skip("at level confined guests see the host's own folders")
    code = """
    const { execSync } = require('child_process');
    console.log(require.resolve('lodash'), execSync('ls -A /node_modules | grep ^[.]; true').toString());
    """
    assert run(harness, "javascript", code).stdout.text == "/node_modules/lodash/lodash.js \n"


def test_javascript_and_typescript_share_one_set(equipped: Languages) -> None:
    javascript, typescript = equipped.find("javascript"), equipped.find("typescript")
    assert javascript.packages
    assert typescript.packages == javascript.packages
    assert {package.name for package in javascript.packages.packages} >= set(ASKED)
