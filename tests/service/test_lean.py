"""``service/lean.py``: each thing once, within its size."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from codex_server.service.lean import LEAN, lean_languages
from codex_server.service.schemas import LanguageEntry, LanguagesResponse, PackageEntry
from codex_server.service.truncation import fit
from tests.service.test_truncation import ROOM, response
from tests.tiers import examples

TEXTS = st.one_of(st.text(max_size=50), st.builds(lambda text, n: text * n, st.text(min_size=1), st.integers(0, 4000)))


@settings(deadline=None, max_examples=examples(60))
@given(stdout=TEXTS, stderr=TEXTS, reason=st.sampled_from([None, "Exit code 1"]), files=st.lists(TEXTS, max_size=4))
def test_it_never_exceeds_its_size_and_wastes_little_of_it(stdout, stderr, reason, files):
    whole = response(stdout, stderr, reason, [(f"f{index}", text) for index, text in enumerate(files)])
    fitted = fit(whole, reason, ROOM, form=LEAN)
    text = LEAN.encode(fitted)
    assert len(text) <= ROOM
    assert json.loads(text)["output"] == fitted.stdout
    if len(LEAN.encode(whole)) <= ROOM:
        assert fitted == whole


def language(name, *packages, available=True):
    return LanguageEntry(
        name=name,
        title=name,
        version="1",
        available=available,
        aliases=[],
        file_name="main",
        packages=[PackageEntry(name=package, version="2") for package in packages],
    )


def test_shared_packages_stand_once_and_what_cannot_run_is_left_out():
    whole = LanguagesResponse(
        languages=[language("a", "x"), language("b", "x"), language("c"), language("d", available=False)]
    )
    first, second, third = lean_languages(whole).languages
    assert (first.packages, first.packages_of) == (["x 2"], None)
    assert (second.packages, second.packages_of) == (None, "a")
    assert (third.packages, third.packages_of) == (None, None)
