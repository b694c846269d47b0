import ast
import string
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.imports import imported_packages, needs, speaks_of

LONG = "\n# " + "x" * 20_000
BROKEN = "\nthis is no python\n"
NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=8).filter(lambda name: name not in KEYWORDS)
KEYWORDS = {"as", "import", "from", "in", "is", "if", "or", "and", "not", "def", "for", "del", "try", "with", "pass"}
KEYWORDS |= {"class", "while", "else", "elif", "raise", "yield", "break", "global", "lambda", "assert", "return"}
KEYWORDS |= {"except", "async", "await", "nonlocal", "continue", "finally"}


@pytest.mark.parametrize("after", ["", LONG, BROKEN])
@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import numpy", {"numpy"}),
        ("import numpy as np, os.path as p , pandas", {"numpy", "os", "pandas"}),
        ("from matplotlib import pyplot as plt, dates", {"matplotlib"}),
        ("from matplotlib.pyplot import (\n    plot,\n    show,\n)", {"matplotlib"}),
        ("def f():\n    import scipy.stats", {"scipy"}),
        ("try:\n\timport numpy  # fast\nexcept ImportError:\n\timport array", {"numpy", "array"}),
        ("if 1:\n    pass\nelse:\n    from a.b import *", {"a"}),
        ("__import__('numpy')\nimportlib.import_module( \"pandas.io\")", {"numpy", "pandas"}),
        ("from . import numpy\nfrom .pandas import x", set()),
        ("print('hello')", set()),
    ],
)
def test_imports_are_found_however_they_are_written(code: str, found: set[str], after: str) -> None:
    assert imported_packages(code + after) == found


@pytest.mark.parametrize(
    "code",
    [
        "x = 1; import numpy",
        "match x:\n    case 1:\n        import numpy",
        "with a: import numpy",
        "for x in y:\n    while z:\n        async def f():\n            import numpy",
        "class A:\n    import numpy",
        "try:\n    pass\nfinally:\n    import numpy",
    ],
)
def test_imports_are_found_in_every_kind_of_block(code: str) -> None:
    assert imported_packages(code) == {"numpy"}


def test_a_word_in_a_text_or_a_remark_is_no_import() -> None:
    assert imported_packages('"""\nimport numpy\n"""\n# import pandas\nx = "import os"') == set()


@pytest.mark.parametrize(
    "code",
    ["", "\0import numpy", "\ud800", "(" * 5000, "import", "from", "import ,", "from .", "x" * 10**6, "\t" * 10**6],
)
def test_nothing_that_is_no_program_stops_it(code: str) -> None:
    assert imported_packages(code) <= {"numpy"}


def test_a_program_s_own_escapes_are_no_warning_of_ours() -> None:
    assert imported_packages("import numpy\nx = '\\d'") == {"numpy"}


@pytest.mark.parametrize(
    "text", ["MPLBACKEND", "os.environ['OMP_NUM_THREADS']", "t.to_parquet()", "a/t.parquet", "conf/matplotlibrc"]
)
def test_a_word_that_begins_so_is_spoken_of(text: str) -> None:
    assert speaks_of(["import pandas", text], {"MPL", "OMP_", "parquet", "matplotlibrc"})


def test_a_word_that_only_contains_it_is_not() -> None:
    assert not speaks_of(["COMP_A, SIMPLE = 1, 2", "import matplotlib"], {"MPL", "OMP_", "matplotlibrc"})
    assert not speaks_of(["anything"], ())


def test_only_the_names_that_matter_count() -> None:
    assert needs("import numpy as np", {"numpy", "pandas"})
    assert not needs("import os  # not numpy", {"numpy", "pandas"})
    assert not needs("import numpy", ())


@given(st.text())
def test_any_text_is_read(code: str) -> None:
    assert all(isinstance(name, str) for name in imported_packages(code))


@given(st.lists(NAMES, min_size=1, max_size=5), st.sampled_from(["", LONG, BROKEN]), st.booleans())
def test_what_is_imported_is_found(names: list[str], after: str, in_function: bool) -> None:
    code = "\n".join(f"import {name}.part as other" for name in names)
    if in_function:
        code = "def f():\n" + textwrap.indent(code, "    ")
    assert imported_packages(code + after) == set(names)


@given(st.lists(NAMES, min_size=1, max_size=5))
def test_the_two_ways_agree(names: list[str]) -> None:
    code = f"import {', '.join(names)}\nfrom {names[0]}.x import y\n"
    ast.parse(code)
    assert imported_packages(code) == imported_packages(code + LONG) == imported_packages(code + BROKEN)
