"""What the results of a Python session's cells are with the real data packages, and which figures come back."""

import os
from collections.abc import Iterator

import pytest

from codex_server.languages import Languages
from tests.runners.live_interpreter import Forking, LiveInterpreter

KINDS = {
    "pandas": ("import pandas; pandas.DataFrame({'a': [1]})", {"text/html"}),
    "sympy": ("import sympy; sympy.Symbol('x') ** 2", {"text/latex"}),
    "pillow": ("from PIL import Image; Image.new('RGB', (2, 2))", {"image/png"}),
    "a figure": ("import matplotlib.pyplot as plt; f, axes = plt.subplots(); axes.plot([1, 2]); f", {"image/png"}),
    "axes": ("import pandas; pandas.DataFrame({'a': [1, 2]}).plot()", {"image/png"}),
    "a part of a figure": ("import matplotlib.pyplot as plt; plt.figure().subfigures(1, 2)[0]", {"image/png"}),
}


@pytest.fixture(scope="module")
def forking(equipped: Languages) -> Iterator[Forking]:
    python = equipped.find("python")
    assert python.packages
    forking = Forking(python.packages.folder / "bin" / "python", python.preload)
    yield forking
    forking.close()


@pytest.fixture
def python(forking, tmp_path) -> Iterator[LiveInterpreter]:
    interpreter = forking.fork(tmp_path)
    yield interpreter
    interpreter.close()


@pytest.mark.parametrize("name", KINDS)
def test_value_offers_its_forms(name, python):
    code, kinds = KINDS[name]
    reply = python.run(code)
    assert (reply.code, reply.stderr) == (0, "")
    assert set(reply.result) == {"text/plain", *kinds}


def test_each_figure_comes_back_once_at_the_end_of_its_cell(python, tmp_path):
    python.run("import matplotlib.pyplot as plt\nfrom matplotlib.figure import Figure")
    python.run("plt.plot([1, 2])\nplt.title('first');")
    assert sorted(os.listdir(tmp_path)) == ["figure-1.png"]
    assert python.run("plt.get_fignums()").text == "[]"
    python.run("kept = Figure(); kept.subplots().plot([1, 2]); plt.plot([1]); plt.show()")
    assert sorted(os.listdir(tmp_path)) == ["figure-1.png", "figure-2.png", "figure-3.png"]
    python.run("plt.plot([1]); plt.savefig('own.png')")
    python.run("exit()")
    assert sorted(os.listdir(tmp_path)) == ["figure-1.png", "figure-2.png", "figure-3.png", "own.png"]


def test_figure_of_a_cell_that_failed_comes_back_too(python, tmp_path):
    assert python.run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\n1 / 0").code == 1
    assert os.listdir(tmp_path) == ["figure-1.png"]


def test_displayed_figure_is_the_result_of_a_cell_without_a_value(python):
    reply = python.run("import matplotlib.pyplot as plt\nf = plt.figure(); f.subplots(); display(f)")
    assert set(reply.result) == {"image/png"}
