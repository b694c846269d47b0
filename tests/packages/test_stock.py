"""``packages/stock.py``: hints for a program that imports a missing package."""

from pathlib import Path

import pytest

from codex_server.packages.stock import Stock, read_stock

PYTHON = Stock(
    "pip", ("pandas", "pillow", "scikit-learn"), {"pillow": "PIL", "scikit-learn": "sklearn"}, {"cv2": "pillow"}
)
NODE = Stock("npm", ("csv-parse", "lodash"), {}, {"xlsx": "exceljs"})
CHAIN = "KeyError: 1\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback ...\n"


@pytest.mark.parametrize(
    ("stock", "stderr", "missed"),
    [
        (PYTHON, "Traceback ...\n  import polars\nModuleNotFoundError: No module named 'polars'\n", "polars"),
        (PYTHON, CHAIN + "ModuleNotFoundError: No module named 'a.b'; 'a' is not a package", "a.b"),
        (PYTHON, "ImportError: Missing optional dependency 'odfpy'.  Use pip or conda to install odfpy.", "odfpy"),
        (PYTHON, "/usr/bin/python3: No module named pip\n", "pip"),
        (PYTHON, "ImportError: cannot import name 'x' from 'pandas'", None),
        (PYTHON, "print: No module named 'said'", None),
        (NODE, "node:internal\n  throw err;\n\nError: Cannot find module 'left-pad'\nRequire stack:\n", "left-pad"),
        (NODE, "Error [ERR_MODULE_NOT_FOUND]: Cannot find package '@a/b' imported from /workspace/main.mjs", "@a/b"),
        (NODE, "Error: Cannot find module './mine.js'\nRequire stack:", None),
        (NODE, "Error: Cannot find module '/workspace/mine.js'", None),
        (NODE, "", None),
    ],
)
def test_what_was_missed_is_read_from_what_the_interpreter_said(stock: Stock, stderr: str, missed: str | None) -> None:
    assert stock.missed(stderr) == missed


@pytest.mark.parametrize(
    ("stock", "missed", "parts"),
    [
        (PYTHON, "cv2", ["'cv2' is not installed", "no network", "Instead: pillow.", "GET /languages"]),
        (PYTHON, "panda", ["Did you mean 'pandas'?", "Installed: pandas, pillow (import PIL), scikit-learn (import"]),
        (PYTHON, "skleran.svm", ["'skleran' is not installed", "Did you mean 'sklearn'?"]),
        (PYTHON, "sklearn.cross_validation", ["scikit-learn is installed, but has no 'sklearn.cross_validation'"]),
        (NODE, "xlsx", ["Instead: exceljs.", "Installed: csv-parse, lodash."]),
        (NODE, "@a/b/c", ["'@a/b' is not installed"]),
        (NODE, "csv-parse/nothing", ["csv-parse is installed, but has no 'csv-parse/nothing'"]),
    ],
)
def test_the_advice_names_what_is_there(stock: Stock, missed: str, parts: list[str]) -> None:
    advice = stock.advise(missed, installed=True)
    assert advice.startswith("Hint: ")
    assert "\n" not in advice
    for part in parts:
        assert part in advice


def test_where_no_packages_are_installed_none_is_named() -> None:
    assert "pandas" not in PYTHON.advise("polars", installed=False)


def test_a_manifest_is_read(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# tables\npandas>=2,<3\npython-docx[x] ; python_version > '3'\na-font==1\n\nPillow\n")
    assert read_stock("pip", requirements, {"a-font": ""}, {}).names == ("pandas", "Pillow", "python-docx")
    manifest = tmp_path / "package.json"
    manifest.write_text('{"dependencies": {"lodash": "1", "@a/b": "2"}, "overrides": {"c": "3"}}')
    assert read_stock("npm", manifest, {}, {}).names == ("@a/b", "lodash")
