"""The list of mutations fits the code, and the tool tells what it saw."""

from pathlib import Path

import pytest

from tests.mutation.__main__ import ROOT, Verdict, judge, summary, verdict_of
from tests.mutation.mutation import ListError, Mutation, load_mutations

MUTATIONS = load_mutations()
SOME = Mutation("some", "code.py", "a < b", "a <= b", ("test_code.py",))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_fits_the_code_and_names_tests_that_there_are(mutation: Mutation):
    assert mutation.applied((ROOT / mutation.file).read_text(encoding="utf-8"))
    assert [test for test in mutation.tests if not (ROOT / test.partition("::")[0]).exists()] == []


def test_there_are_enough_of_them():
    assert len(MUTATIONS) >= 50
    assert len([mutation for mutation in MUTATIONS if mutation.accepted]) <= len(MUTATIONS) / 10


@pytest.mark.parametrize("text", ["b < a", "a < b; a < b"])
def test_a_text_that_is_missing_or_there_twice_is_refused(text: str):
    with pytest.raises(ListError, match=r"some: its text stands [02] times in code.py"):
        SOME.applied(text)


@pytest.mark.parametrize(
    ("code", "hangs", "verdict"),
    [
        (0, False, Verdict.SURVIVED),
        (1, False, Verdict.CAUGHT),
        (2, False, Verdict.BROKEN),
        (4, False, Verdict.BROKEN),
        (5, False, Verdict.BROKEN),
        (-9, False, Verdict.BROKEN),
        (None, False, Verdict.BROKEN),
        (None, True, Verdict.CAUGHT),
        (0, True, Verdict.SURVIVED),
    ],
)
def test_only_a_failing_test_catches_a_mutation(code: int | None, hangs: bool, verdict: Verdict):
    mutation = Mutation("some", "code.py", "a", "b", ("test_code.py",), hangs=hangs)
    assert verdict_of(mutation, code) is verdict


@pytest.mark.tier("change")
@pytest.mark.parametrize(
    ("asserted", "verdict"), [("not less(1, 1)", Verdict.CAUGHT), ("less(1, 2)", Verdict.SURVIVED)]
)
def test_a_mutation_is_put_in_and_taken_out_again(tmp_path: Path, asserted: str, verdict: Verdict):
    (tmp_path / "comparing.py").write_text("def less(a, b): return a < b\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_code.py").write_text(f"from comparing import less\ndef test(): assert {asserted}\n")
    mutation = Mutation("some", "comparing.py", "a < b", "a <= b", ("test_code.py",))
    assert judge(tmp_path, mutation) is verdict
    assert (tmp_path / "comparing.py").read_text() == "def less(a, b): return a < b\n"


def test_nine_of_ten_are_enough_and_each_survivor_is_named():
    mutations = [Mutation(f"m{number}", "f", "a", "b", ("t",)) for number in range(10)]
    verdicts = {mutation.name: Verdict.CAUGHT for mutation in mutations}
    assert summary(mutations, verdicts | {"m3": Verdict.SURVIVED}) == (
        "9 of 10 mutations caught (90%)\n  SURVIVED: m3",
        True,
    )
    assert not summary(mutations, verdicts | {"m3": Verdict.SURVIVED, "m4": Verdict.SURVIVED})[1]
    assert not summary(mutations, verdicts | {"m3": Verdict.BROKEN})[1], "nothing is known of it"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('name = "x"\nfile = "f"\nold = "a"\nnew = "b"', "its keys are not those"),
        ('name = "x"\nfile = "f"\nold = "a"\nnew = "a"\ntests = ["t"]', "it changes nothing"),
        ('name = "x"\nfile = "f"\nold = "a"\nnew = "b"\ntests = []', "it names no tests"),
        (
            'name = "x"\nfile = "f"\nold = "a"\nnew = "b"\ntests = ["t"]\nmore = 1',
            "its keys are not those",
        ),
    ],
)
def test_a_row_of_another_shape_is_refused_by_its_name(tmp_path: Path, row: str, said: str):
    (tmp_path / "list.toml").write_text(f"[[mutation]]\n{row}\n")
    with pytest.raises(ListError, match=f"x: {said}"):
        load_mutations(tmp_path / "list.toml")
