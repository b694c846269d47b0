"""The Python agent with the packages preloaded, against the plain interpreter of their environment."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_server.languages import Language, Languages
from tests.runners.comparison import Program, Result, WarmPython, lay_out, run_bare
from tests.runners.python_programs import PROGRAMS

pytestmark = pytest.mark.tier("change")

DATA_PROGRAMS = {
    "a_table": "import pandas as pd\nprint(pd.DataFrame({'a': [1, 2.5, None], 'b': list('xyx')}).groupby('b').sum())",
    "linear_algebra": "import numpy as np\nprint(np.linalg.inv(np.array([[2.0, 0], [0, 4]])), np.finfo(float).eps)",
    "a_warning_in_its_own_line": "import numpy as np\nprint(np.array([1.0]) / np.array([0.0]))",
    "a_traceback_through_a_package": "import pandas as pd\npd.DataFrame({'a': [1]})['b']",
    "a_glyph_that_no_font_has": "import warnings\nimport matplotlib.pyplot as plt\n"
    "plt.title('\\ue000')\nwith warnings.catch_warnings(record=True) as said:\n    plt.savefig('x.png')\n"
    "print(str(said[0].message)[:30], said[0].filename, said[0].lineno)",
    "a_backend_that_is_chosen": "import matplotlib\nmatplotlib.use('svg')\nprint(matplotlib.get_backend())",
    "seeded_randomness": "import numpy as np\nnp.random.seed(3)\nprint(np.random.rand(3))\n"
    "print(np.random.default_rng(4).random())",
    "settings_of_its_own": "import pandas as pd\npd.set_option('display.max_rows', 3)\nprint(pd.Series(range(9)))",
    "a_file_named_like_a_package": "import numpy\nprint(numpy.__file__.rsplit('/', 1)[1])",
    "its_own_threads": "import os, numpy as np\na = np.ones((900, 900))\nprint((a @ a)[0, 0])\n"
    "print(len(os.sched_getaffinity(0)) < 2 or len(os.listdir('/proc/self/task')) > 1)",
}


@pytest.fixture(scope="module")
def python(equipped: Languages) -> Language:
    return equipped.find("python")


@pytest.fixture(scope="module")
def interpreter(python: Language) -> Path:
    assert python.packages
    return python.packages.folder / "bin" / "python3"


@pytest.fixture(scope="module")
def warm(python: Language, interpreter: Path) -> Iterator[WarmPython]:
    warm = WarmPython(interpreter, python.preload)
    yield warm
    warm.close()


def both(warm: WarmPython, interpreter: Path, program: Program, workspace: Path) -> tuple[Result, Result]:
    bare = run_bare([interpreter, lay_out(program, workspace, "main.py")], program, workspace)
    here = warm.run(lay_out(program, workspace, "main.py"), program)
    return here.without_addresses(), bare.without_addresses()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_plain_program_comes_out_as_under_plain_python(name, warm, interpreter, tmp_path):
    here, bare = both(warm, interpreter, PROGRAMS[name], tmp_path / "workspace")
    assert here == bare


@pytest.mark.parametrize("name", DATA_PROGRAMS)
def test_a_data_program_comes_out_as_under_plain_python(name, warm, interpreter, tmp_path):
    files = {"numpy.py": ""} if name == "a_file_named_like_a_package" else {}
    program = Program(DATA_PROGRAMS[name], files=files, env={"HOME": str(tmp_path)})
    here, bare = both(warm, interpreter, program, tmp_path / "workspace")
    assert here == bare
    assert bare.stdout or bare.stderr


def test_preloaded_packages_are_there_before_the_program_asks(warm, tmp_path):
    result = run(warm, "import sys; print('pandas' in sys.modules, 'numpy.random' in sys.modules)", tmp_path)
    assert result == Result(0, "True True\n", "")


def test_workers_share_no_randomness(warm, tmp_path):
    code = "import numpy as np, uuid; print(np.random.rand(), np.random.default_rng().random(), uuid.uuid4())"
    first, second = (run(warm, code, tmp_path).stdout.split() for _ in range(2))
    assert len(set(first) | set(second)) == 6


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
def test_a_variable_that_a_package_has_read_already_starts_a_new_interpreter(name, warm, tmp_path):
    code = (
        "import os, numpy as np; np.ones((900, 900)) @ np.ones((900, 900)); print(len(os.listdir('/proc/self/task')))"
    )
    assert run(warm, code, tmp_path, env={name: "1"}) == Result(0, "1\n", "")


def test_what_the_zygote_drew_is_not_the_program_s(warm, tmp_path):
    code = "import matplotlib.pyplot as plt; print(plt.get_fignums(), plt.figure().number, plt.rcParams['backend'])"
    assert run(warm, code, tmp_path).stdout == "[] 1 module://codex_figures\n"


def test_a_program_s_matplotlib_has_folders_of_its_own(warm, tmp_path):
    code = "import json, matplotlib as m; print(json.dumps([m.get_cachedir(), m.get_configdir()]))"
    result = run(warm, code, tmp_path)
    assert json.loads(result.stdout) == [str(tmp_path / ".cache/matplotlib"), str(tmp_path / ".config/matplotlib")]
    assert os.listdir(tmp_path / ".cache/matplotlib") == []  # the list of fonts was made beforehand


@pytest.mark.parametrize("name", ["statistics.py", "csv/__init__.py", "pandas/__init__.py"])
def test_a_module_that_goes_before_a_preloaded_one_starts_a_new_interpreter(name, warm, interpreter, tmp_path):
    code = "import sys\nprint('numpy' in sys.modules)"
    here, bare = both(warm, interpreter, Program(code, files={name: "mine = 1"}), tmp_path / "workspace")
    assert here == bare == Result(0, "False\n", "")


def test_data_named_like_a_module_changes_nothing(warm, tmp_path):
    program = Program("import sys; print('numpy' in sys.modules)", files={"statistics.csv": "", "calendar/a.txt": ""})
    assert warm.run(lay_out(program, tmp_path / "workspace", "main.py"), program).stdout == "True\n"


def test_what_one_program_changes_is_not_seen_by_the_next(warm, tmp_path):
    run(warm, "import pandas, matplotlib; pandas.DataFrame = None; matplotlib.rcParams['font.size'] = 1", tmp_path)
    result = run(
        warm, "import pandas, matplotlib; print(pandas.DataFrame(), matplotlib.rcParams['font.size'])", tmp_path
    )
    assert result.stdout == "Empty DataFrame\nColumns: []\nIndex: [] 10.0\n"


def run(warm: WarmPython, code: str, folder: Path, env: dict[str, str] | None = None) -> Result:
    program = Program(code, env={"HOME": str(folder)} | (env or {}))
    return warm.run(lay_out(program, folder / "workspace", "main.py"), program)
