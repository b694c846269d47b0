"""What users of a code interpreter do, with the real packages, at each isolation level."""

import io
import json
import textwrap
import zipfile
from hashlib import sha256

import pytest

from codex_server.model import Outcome, Status
from tests.contract.harness import Harness
from tests.tiers import STRONGEST

pytestmark = pytest.mark.tier("change")

AT_ONE_LEVEL = pytest.mark.parametrize("harness", [STRONGEST], indirect=True)
"""For what is the packages' own doing, whatever boundary stand around them."""
PNG = b"\x89PNG\r\n"
PROGRAMS = {
    "pandas_describes": (
        "import pandas as pd; print(pd.DataFrame({'a': [1, 2, 3]}).describe().loc[['count', 'mean']])",
        "         a\ncount  3.0\nmean   2.0\n",
    ),
    "numpy_multiplies_and_decomposes_with_threads": (
        """
        import numpy as np
        a = np.random.default_rng(1).random((400, 400))
        u, s, v = np.linalg.svd(a @ a.T)
        print(u.shape, bool((np.diff(s) <= 0).all()), round(float(np.abs(u @ np.diag(s) @ v - a @ a.T).max()), 6))
        """,
        "(400, 400) True 0.0\n",
    ),
    "scipy_minimizes": (
        "from scipy.optimize import minimize; print(round(float(minimize(lambda x: (x[0] - 3) ** 2, [0]).x[0]), 3))",
        "3.0\n",
    ),
    "sympy_integrates": ("from sympy import *; x = symbols('x'); print(integrate(x ** 2, (x, 0, 3)))", "9\n"),
    "scikit_learn_fits": (
        """
        from sklearn.linear_model import LinearRegression
        print(LinearRegression().fit([[0], [1]], [1, 3]).predict([[2]]).round(3))
        """,
        "[5.]\n",
    ),
    "statsmodels_fits": (
        """
        import statsmodels.api as sm
        print([round(float(p), 3) for p in sm.OLS([1, 3, 5], sm.add_constant([0, 1, 2])).fit().params])
        """,
        "[1.0, 2.0]\n",
    ),
    "pillow_draws": (
        "from PIL import Image; i = Image.new('RGB', (4, 4), 'red'); print(i.resize((2, 2)).getpixel((0, 0)))",
        "(255, 0, 0)\n",
    ),
    "documents_are_read_and_written": (
        """
        import io, docx, pptx, pypdf, lxml.etree, bs4, yaml, tabulate, jinja2, dateutil.parser, networkx, requests
        from reportlab.pdfgen.canvas import Canvas
        page = io.BytesIO(); canvas = Canvas(page); canvas.drawString(100, 700, "hello pdf"); canvas.save()
        print(pypdf.PdfReader(page).pages[0].extract_text().strip())
        print(bs4.BeautifulSoup("<p>soup</p>", "lxml").p.text, yaml.safe_load("a: 1"), tabulate.tabulate([[1]]))
        """,
        "hello pdf\nsoup {'a': 1} -\n1\n-\n",
    ),
    "requests_says_that_there_is_no_network": (
        """
        import requests
        try: requests.get("http://192.0.2.1", timeout=5)
        except requests.ConnectionError as error: print("none")
        """,
        "none\n",
    ),
    "a_subprocess_finds_the_packages": (
        """
        import subprocess, sys
        for python in (sys.executable, "python3", "python"):
            print(subprocess.run([python, "-c", "import numpy; print(numpy.arange(3).sum())"], capture_output=True,
                  text=True, check=True).stdout, end="")
        """,
        "3\n3\n3\n",
    ),
    "nothing_can_be_installed_or_changed": (
        """
        import importlib.util, numpy, os, subprocess, sys
        print(importlib.util.find_spec("pip"), subprocess.run([sys.executable, "-m", "ensurepip"],
              capture_output=True).returncode != 0)
        for folder in (os.path.dirname(numpy.__file__), sys.prefix, os.path.join(sys.prefix, "bin")):
            try: open(os.path.join(folder, "new"), "w")
            except OSError: print("no")
        """,
        "None True\nno\nno\nno\n",
    ),
    "an_own_file_goes_before_a_package": ("import yaml; print(yaml.__doc__)", "mine\n"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_does_with_the_packages_what_it_should(name: str, harness: Harness) -> None:
    code, printed = PROGRAMS[name]
    files = {"yaml.py": b'"""mine"""\n'} if name == "an_own_file_goes_before_a_package" else {}
    outcome = run(harness, code, files=files)
    assert (outcome.stdout.text, outcome.stderr.text, outcome.exit_code) == (printed, "", 0)


def test_a_workbook_comes_in_and_goes_out(harness: Harness) -> None:
    first = run(harness, "import openpyxl; w = openpyxl.Workbook(); w.active['A1'] = 41; w.save('in.xlsx')")
    code = """
    import pandas as pd
    table = pd.read_excel("in.xlsx", header=None) + 1
    table.to_excel("out.xlsx", header=False, index=False, engine="xlsxwriter")
    print(table.iloc[0, 0])
    """
    second = run(harness, code, files={"in.xlsx": files(first)["in.xlsx"]})
    assert second.stdout.text == "42\n"
    assert "xl/workbook.xml" in zipfile.ZipFile(io.BytesIO(files(second)["out.xlsx"])).namelist()


@pytest.mark.parametrize("choice", ["", "import matplotlib; matplotlib.use('Agg')\n"])
def test_a_saved_figure_comes_back_once_and_nothing_is_said_about_fonts(choice: str, harness: Harness) -> None:
    outcome = run(
        harness, choice + "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.savefig('plot.png', dpi=50)"
    )
    assert outcome.stderr.text == ""
    assert set(files(outcome)) == {"plot.png"}
    assert files(outcome)["plot.png"].startswith(PNG)


@pytest.mark.parametrize("choice", ["", "import matplotlib; matplotlib.use('Agg')\n"])
def test_figures_that_are_left_open_come_back(choice: str, harness: Harness) -> None:
    code = "import matplotlib.pyplot as plt\nplt.plot([1]); plt.figure(); plt.title('b'); plt.figure()\nprint('end')"
    outcome = run(harness, choice + code)
    assert (outcome.stdout.text, outcome.stderr.text) == ("end\n", "")
    assert set(files(outcome)) == {"figure-1.png", "figure-2.png"}  # the third is empty
    assert all(content.startswith(PNG) for content in files(outcome).values())


def test_figures_that_are_shown_come_back_one_by_one_and_overwrite_nothing(harness: Harness) -> None:
    code = """
    import matplotlib.pyplot as plt
    plt.plot([1, 2]); plt.show()
    plt.plot([2, 1]); plt.show()
    print(plt.get_fignums())
    """
    outcome = run(harness, code, files={"figure-1.png": b"mine"})
    assert (outcome.stdout.text, outcome.stderr.text) == ("[]\n", "")
    assert set(files(outcome)) == {"figure-2.png", "figure-3.png"}


FIGURES = {
    "saved_where_it_is_thrown_away": ("plt.plot([1]); plt.savefig(tempfile.mktemp('.png')); plt.show()",
                                      "figure-1.png"),
    "saved_to_memory": ("plt.plot([1]); plt.savefig(io.BytesIO()); plt.show()", "figure-1.png"),
    "saved_to_an_open_file": ("plt.plot([1])\nwith open('a.png', 'wb') as f: plt.savefig(f)\nplt.show()", "a.png"),
    "saved_in_a_folder": ("os.mkdir('o'); plt.plot([1]); plt.savefig('o/a.png', bbox_inches='tight')", "o/a.png"),
    "saved_then_removed": ("plt.plot([1]); plt.savefig('a.png'); os.remove('a.png'); plt.show()", "figure-1.png"),
    "saved_then_cleared": ("plt.plot([1]); plt.savefig('a.png'); plt.clf(); plt.plot([2]); plt.show()",
                           "a.png figure-1.png"),
    "saved_changed_and_drawn": ("plt.plot([1]); plt.savefig('a.png'); plt.title('x'); plt.gcf().canvas.draw()",
                                "a.png figure-1.png"),
    "saved_and_drawn": ("plt.plot([1]); plt.savefig('a.png'); plt.gcf().canvas.draw(); plt.show()", "a.png"),
    "shown_and_closed": ("plt.plot([1]); plt.show(block=False); plt.close()", "figure-1.png"),
    "closed_unseen": ("plt.plot([1]); plt.close()", ""),
    "shown_twice": ("f, a = plt.subplots(); a.plot([1]); f.show(); a.set_title('x'); f.show()",
                    "figure-1.png figure-2.png"),
    "animated": ("for i in range(4): plt.cla(); plt.plot([i]); plt.pause(0.01)", "figure-1.png figure-2.png"),
    "copied_by_a_fork": ("plt.plot([1])\nif os.fork() == 0: raise SystemExit\nos.wait()", "figure-1.png"),
    "made_without_pyplot": ("f = Figure(); f.subplots().plot([1])\ng = Figure(); g.savefig(io.BytesIO())",
                            "figure-1.png"),
}  # fmt: skip


@AT_ONE_LEVEL
@pytest.mark.parametrize("name", FIGURES)
def test_what_a_figure_showed_last_comes_back_unless_a_file_that_comes_back_shows_it(
    name: str, harness: Harness
) -> None:
    code, expected = FIGURES[name]
    outcome = run(
        harness,
        f"import io, os, tempfile\nimport matplotlib.pyplot as plt\nfrom matplotlib.figure import Figure\n{code}",
    )
    assert (outcome.stderr.text, outcome.exit_code) == ("", 0)
    assert " ".join(sorted(files(outcome))) == expected
    assert all(content.startswith(PNG) for content in files(outcome).values())


@AT_ONE_LEVEL
def test_a_large_chart_comes_back_with_a_palette_and_a_picture_of_many_shades_as_it_is(harness: Harness) -> None:
    code = """
    import io, matplotlib.pyplot as plt, numpy as np
    from PIL import Image
    rng, whole = np.random.default_rng(1), []
    def chart(): plt.scatter(rng.random(500), rng.random(500), c=rng.random(500)); plt.colorbar()
    def photo(): x, y = np.mgrid[0:1:400j, 0:1:400j]; plt.imshow(np.dstack([x, y, np.sin(9 * x * y) ** 2]))
    for draw in (chart, photo, lambda: plt.plot([1])):
        plt.figure(); draw(); content = io.BytesIO(); plt.savefig(content); whole.append(content.getvalue())
        plt.title(" "); plt.show()
    for number, before in enumerate(whole, 1):
        saved = open(f"figure-{number}.png", "rb").read()
        picture = Image.open(io.BytesIO(saved))
        print(picture.mode, len(saved) < len(before) / 2, picture.size, picture.convert("RGB").getpixel((0, 0)))
    """
    shown = "P True (640, 480) (255, 255, 255)\nRGBA False (640, 480) (255, 255, 255)\n"
    assert run(harness, code).stdout.text == shown + "RGBA False (640, 480) (255, 255, 255)\n"


@AT_ONE_LEVEL
def test_documents_and_large_charts_come_back_byte_for_byte(harness: Harness) -> None:
    code = """
    import docx, hashlib, matplotlib.pyplot as plt, os
    from reportlab.pdfgen.canvas import Canvas
    docx.Document().save("empty.docx")
    plt.plot([1, 3, 2]); plt.savefig("chart.png", dpi=300)
    page = Canvas("page.pdf"); page.drawString(100, 700, "hello"); page.save()
    with open("table.csv", "w") as table:
        for n in range(10 * 2**20 // 10): table.write(f"{n:09d},{n % 7:09d}\\n")
    for name in sorted(os.listdir()):
        if name != "main.py": print(name, hashlib.sha256(open(name, "rb").read()).hexdigest())
    """
    outcome = run(harness, code)
    left = files(outcome)
    assert outcome.stdout.text == "".join(f"{name} {sha256(left[name]).hexdigest()}\n" for name in sorted(left))
    assert set(left) == {"empty.docx", "chart.png", "page.pdf", "table.csv"}
    assert len(left["table.csv"]) == 20 * 2**20


def test_a_time_out_while_a_figure_is_drawn_leaves_no_piece_of_it(harness: Harness) -> None:
    code = """
    import matplotlib.pyplot as plt, time
    from matplotlib.lines import Line2D
    plt.plot([1])
    Line2D.draw = lambda self, renderer: time.sleep(60)
    plt.show()
    """
    outcome = run(harness, code, limits={"wall_seconds": 3})
    assert (outcome.status, files(outcome)) == (Status.TIMED_OUT, {})


def test_pictures_and_pages_that_are_shown_come_back(harness: Harness) -> None:
    code = """
    import plotly.express as px
    from PIL import Image
    Image.new("CMYK", (3, 2)).show(title="a"); Image.new("RGBA", (1, 1)).show()
    px.line(x=[1, 2], y=[3, 4]).show()
    """
    outcome = run(harness, code)
    assert (outcome.stdout.text, outcome.stderr.text) == ("", "")
    found = files(outcome)
    assert set(found) == {"image-1.png", "image-2.png", "figure-1.html"}
    assert found["image-1.png"].startswith(PNG)
    assert b"Plotly.newPlot" in found["figure-1.html"]


SETTINGS = {
    "a_file": ("print(m.rcParams['lines.linewidth'])", {"matplotlibrc": b"lines.linewidth: 7"}, {}, "7.0"),
    "a_file_below_its_home": (
        "print(m.rcParams['lines.linewidth'])",
        {"conf/matplotlibrc": b"lines.linewidth: 8"},
        {"MPLCONFIGDIR": "conf"},
        "8.0",
    ),
    "a_variable": ("print(m.get_backend().lower())", {}, {"MPLBACKEND": "svg"}, "svg"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_a_program_brings_goes_before_what_is_preloaded(name: str, harness: Harness) -> None:
    code, brought, env, printed = SETTINGS[name]
    outcome = run(harness, f"import matplotlib as m\n{code}", files=brought, env=env)
    assert (outcome.stdout.text, outcome.stderr.text) == (f"{printed}\n", "")


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("import os; os.environ['MPLBACKEND'] = 'svg'\nimport matplotlib as m; print(m.get_backend())", "svg\n"),
        ("import before, matplotlib as m; print(m.get_backend())", "pdf\n"),
        (
            "open('matplotlibrc', 'w').write('lines.linewidth: 9')\n"
            "import matplotlib as m; print(m.rcParams['lines.linewidth'])",
            "9.0\n",
        ),
        (
            "import os; os.environ.update(OPENBLAS_NUM_THREADS='1')\nimport ctypes, glob, numpy\n"
            "(library,) = glob.glob(os.path.dirname(numpy.__file__) + '.libs/libscipy_openblas*')\n"
            "print(ctypes.CDLL(library).scipy_openblas_get_num_threads64_())",
            "1\n",
        ),
    ],
)
def test_what_a_program_sets_before_it_imports_counts(code: str, printed: str, harness: Harness) -> None:
    outcome = run(harness, code, files={"before.py": b"import os\nos.environ['MPLBACKEND'] = 'pdf'"})
    assert (outcome.stdout.text, outcome.stderr.text) == (printed, "")


def test_tables_go_to_parquet_and_come_back(harness: Harness) -> None:
    code = """
    import pandas as pd, pyarrow.parquet as pq
    days = pd.to_datetime(["2026-01-01", "2026-01-02"])
    pd.DataFrame({"a": [1, 2], "b": ["x", None], "t": days}).to_parquet("t.parquet")
    table = pd.read_parquet("t.parquet")
    print(table.shape, table.dtypes["b"].storage, pq.read_table("t.parquet").schema.names)
    """
    outcome = run(harness, code)
    assert (outcome.stdout.text, outcome.stderr.text) == ("(2, 3) pyarrow ['a', 'b', 't']\n", "")


@AT_ONE_LEVEL
def test_every_package_is_imported(harness: Harness) -> None:
    stock = harness.languages.find("python").stock
    assert stock
    names = [stock.imports.get(name, name).replace("-", "_") for name in stock.names]
    code = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    outcome = run(harness, code, limits={"wall_seconds": 30})
    assert (outcome.stderr.text, outcome.exit_code) == ("", 0)


@AT_ONE_LEVEL
def test_text_in_every_script_is_drawn_in_any_font_without_a_word(harness: Harness) -> None:
    code = r"""
    import matplotlib.pyplot as plt, seaborn
    from PIL import Image, ImageDraw, ImageFont
    from reportlab.pdfbase.ttfonts import TTFont
    text = "Chart \u56fe\u8868 \u6f22\u5b57 \u3072\u3089\u30ab\u30bf " \
           "\ud55c\uad6d \u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22 \U0001f680"
    for family in ("sans-serif", "serif", "Arial", "Helvetica", "Times New Roman", "Courier New", "SimHei"):
        plt.figure(figsize=(4, 1)); plt.title(text, family=family, weight="bold"); plt.savefig("a.png"); plt.close()
    seaborn.set_theme()
    plt.title(text); plt.savefig("a.pdf"); plt.close()
    for name in ("Arial.ttf", "arialbd.ttf", "Helvetica", "/usr/share/fonts/truetype/msttcorefonts/Times_New_Roman.ttf",
                 "cour.ttf", "DejaVuSans.ttf", "simhei.ttf", "NotoSansCJK-Regular.ttc", "Nirmala.ttf", "seguiemj.ttf"):
        ImageDraw.Draw(Image.new("L", (99, 30))).text((0, 0), text, font=ImageFont.truetype(name, 20), fill=255)
    print([TTFont("x", name).face.familyName for name in ("Arial.ttf", "simsun.ttc")])
    try: ImageFont.truetype("nosuch.ttf")
    except OSError as error: print(error)
    """
    outcome = run(harness, code, limits={"wall_seconds": 30})
    assert outcome.stderr.text == ""
    assert outcome.stdout.text == "[b'Arimo', b'WenQuanYi Micro Hei']\ncannot open resource\n"


def test_a_program_that_fails_still_shows_its_figure(harness: Harness) -> None:
    outcome = run(harness, "import matplotlib.pyplot as plt\nplt.plot([1])\nraise SystemExit(3)")
    assert (outcome.status, outcome.exit_code) == (Status.FAILED, 3)
    assert set(files(outcome)) == {"figure-1.png"}


def test_a_figure_that_cannot_be_saved_is_one_line_and_changes_no_exit_code(harness: Harness) -> None:
    outcome = run(harness, "import matplotlib.pyplot as plt\nfigure = plt.figure()\nplt.plot([1])\nfigure.draw = None")
    assert outcome.exit_code == 0
    assert outcome.stderr.text.startswith("a figure that was left open could not be saved: TypeError")
    assert outcome.stderr.text.count("\n") == 1
    assert files(outcome) == {}


def test_the_plain_backend_can_be_asked_for(harness: Harness) -> None:
    code = "import matplotlib.pyplot as plt; plt.plot([1]); print(plt.get_backend().lower())"
    outcome = run(harness, code, env={"MPLBACKEND": "Agg"})
    assert (outcome.stdout.text, outcome.stderr.text, files(outcome)) == ("agg\n", "", {})


def test_a_program_without_figures_imports_no_matplotlib(harness: Harness) -> None:
    outcome = run(harness, "import subprocess, sys\nprint(1)")
    assert (outcome.stdout.text, files(outcome)) == ("1\n", {})


def test_multiprocessing_spawns_interpreters_with_the_packages(harness: Harness) -> None:
    if harness.name.endswith("confined"):
        pytest.skip("level confined has no /dev/shm for the locks of multiprocessing")
    code = """
    import multiprocessing as mp, numpy as np
    def root(x): return float(np.sqrt(x))
    if __name__ == "__main__":
        with mp.get_context("spawn").Pool(2) as pool: print(pool.map(root, [4, 9]))
    """
    outcome = run(harness, code)
    assert (outcome.stdout.text, outcome.stderr.text) == ("[2.0, 3.0]\n", "")


@pytest.mark.parametrize(
    "code",
    [
        "import numpy as np; print(np.random.rand(), np.random.default_rng().random())",
        "import scipy.stats; print(scipy.stats.norm.rvs())",
        "import pandas as pd; print(pd.Series(range(10**6)).sample(1).iloc[0])",
        "import multiprocessing as mp; print(bytes(mp.current_process().authkey))",
    ],
)
def test_two_programs_share_no_randomness(code: str, harness: Harness) -> None:
    first, second = (run(harness, code).stdout.text for _ in range(2))
    assert first
    assert first != second


def test_a_guest_learns_no_path_of_the_host_from_its_environment(harness: Harness) -> None:
    if harness.name.endswith("confined"):
        pytest.skip("at level confined guests see the host's own folders")
    code = """
    import json, numpy, os, sys, sysconfig
    config = open(os.path.join(sys.prefix, "pyvenv.cfg")).read()
    print(json.dumps([sys.prefix, sys.path, sys.base_prefix, sys.executable, config, dict(os.environ),
                      sysconfig.get_paths(), numpy.array_equal.__wrapped__.__code__.co_filename]))
    open("bytecode", "wb").write(open(numpy.__spec__.cached, "rb").read())
    """
    outcome = run(harness, code)
    host = harness.languages.find("python").packages
    assert host
    assert str(host.folder.parent) not in outcome.stdout.text
    assert str(host.folder.parent).encode() not in files(outcome)["bytecode"]
    prefix, *_, numpy_file = json.loads(outcome.stdout.text)
    assert prefix == "/opt/python-packages"
    assert numpy_file.startswith("/opt/python-packages/lib/")


def test_other_languages_find_the_packages_through_python_on_the_path(harness: Harness) -> None:
    outcome = harness.run("bash", "python3 -c 'import pandas; print(pandas.Series([1, 2]).sum())'")
    assert (outcome.stdout.text, outcome.stderr.text) == ("3\n", "")


def run(harness: Harness, code: str, **given: object) -> Outcome:
    return harness.run("python", textwrap.dedent(code).removeprefix("\n"), **given)


def files(outcome: Outcome) -> dict[str, bytes]:
    """What the program left in its workspace, whole."""
    assert [file for file in outcome.ending.skipped_files if not file.path.startswith("/tmp/")] == []
    return {file.path: file.content for file in outcome.ending.files}
