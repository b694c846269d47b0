"""TypeScript beside the packages: what only the compiler among them translates, and imports of CommonJS by name."""

from pathlib import Path

import pytest

from codex_server.languages import Languages
from tests.contract.harness import Harness
from tests.data_packages.test_javascript import run
from tests.levels import out_of_reach
from tests.runners.beyond_plain_node import COMPILED
from tests.runners.comparison import Program, Result, lay_out, run_armed_node
from tests.tiers import sampled

BY_NAME = """
import * as _ from 'lodash';
import lodash, { chunk, type Dictionary } from 'lodash';
import dayjs, { Dayjs } from 'dayjs';
import utc from 'dayjs/plugin/utc{ending}';
import * as Papa from 'papaparse';
import { isEmail } from 'validator';
import { gt } from 'semver';
import { map } from 'lodash/fp{ending}';
import yaml, { load } from 'js-yaml';
dayjs.extend(utc);
console.log(_.sum([1, 2]), lodash.VERSION === _.VERSION, chunk([1, 2], 1), dayjs.utc('2020-01-01').year(),
  Papa.parse('a,b').data, isEmail('a@b.co'), gt('2.0.0', '1.0.0'), map((x) => x + 1)([1]), yaml.load === load);
"""
PRINTED = "3 true [ [ 1 ], [ 2 ] ] 2020 [ [ 'a', 'b' ] ] true true [ 2 ] true\n"


@pytest.fixture(scope="module")
def languages(equipped: Languages) -> Languages:
    typescript = equipped.find("javascript")
    if not typescript.packages or not equipped.get("typescript").available:  # type: ignore[union-attr]
        out_of_reach("languages", "this Node.js cannot strip types")
    return equipped


def run_beside_packages(languages: Languages, program: Program, folder: Path, file: str = "main.ts") -> Result:
    typescript = languages.find("typescript")
    assert typescript.interpreter
    assert typescript.packages
    (folder / "node_modules").symlink_to(typescript.packages.folder / "node_modules")
    return run_armed_node(typescript.interpreter.path, lay_out(program, folder / "w", file), program)


@pytest.mark.parametrize("name", sampled(COMPILED))
def test_typescript_that_needs_the_compiler_runs(name: str, languages: Languages, tmp_path: Path) -> None:
    program, printed = COMPILED[name]
    assert run_beside_packages(languages, program, tmp_path) == Result(0, printed, "")


def test_names_of_commonjs_packages_are_imported(languages: Languages, tmp_path: Path) -> None:
    program = Program(BY_NAME.replace("{ending}", ""))
    assert run_beside_packages(languages, program, tmp_path) == Result(0, PRINTED, "")


def test_names_of_commonjs_packages_are_imported_in_javascript(languages: Languages, tmp_path: Path) -> None:
    code = BY_NAME.replace("{ending}", ".js").replace(", type Dictionary", "").replace(", { Dayjs }", "")
    assert run_beside_packages(languages, Program(code), tmp_path, "main.js") == Result(0, PRINTED, "")


def test_the_compiler_starts_from_its_bytecode(languages: Languages) -> None:
    packages = languages.find("typescript").packages
    assert packages
    files = {file.name for file in (packages.folder / "node_modules" / "typescript" / "lib").iterdir()}
    assert files == {"typescript.js", "typescript.js.cache"}


def test_a_sandbox_has_the_compiler(harness: Harness) -> None:
    if not harness.languages.find("javascript").packages or not harness.languages.find("typescript").available:
        out_of_reach("languages", "this Node.js cannot strip types")
    program, printed = COMPILED["legacy decorators"]
    assert run(harness, "typescript", program.code).stdout.text == printed
