import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_server.units import format_seconds, format_size, format_sizes, parse_size


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("64MiB", 67_108_864),
        ("64 mib", 67_108_864),
        ("64M", 67_108_864),
        ("1 GiB", 2**30),
        ("1.5KiB", 1536),
        ("500kB", 500_000),
        ("2GB", 2_000_000_000),
        ("7b", 7),
        ("12", 12),
    ],
)
def test_a_size_is_read_as_people_write_it(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1 TiB", "64MiBs", "1e3", "1,000", "½", "0x10", "nan"])
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="64MiB, 1GiB or 500kB"):
        parse_size(text)


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    try:
        assert parse_size(text) >= 0
    except ValueError as error:
        assert repr(text) in str(error)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (268_435_456, "256 MiB"),
        (2**30, "1 GiB"),
        (5 * 2**40, "5120 GiB"),
    ],
)
def test_a_size_is_shown_short(count: int, text: str) -> None:
    assert format_size(count) == text


@given(st.integers(0, 2**50))
def test_what_is_shown_can_be_read_and_is_near(count: int) -> None:
    shown = format_size(count).replace("bytes", "")
    assert parse_size(shown) == pytest.approx(count, rel=0.06, abs=60)


@pytest.mark.parametrize(
    ("size", "cap", "shown"),
    [
        (2**20 + 1, 2**20, ("1048577 bytes", "1048576 bytes")),
        (3 * 2**20, 2**20, ("3 MiB", "1 MiB")),
        (1_600_001, 1_600_000, ("1600001 bytes", "1600000 bytes")),
        (2**20, 2**20, ("1 MiB", "1 MiB")),
    ],
)
def test_sizes_to_compare_are_never_shown_alike(size: int, cap: int, shown: tuple[str, str]) -> None:
    assert format_sizes(size, cap) == shown


@pytest.mark.parametrize(("seconds", "text"), [(10.0, "10 s"), (0.5, "0.5 s"), (30, "30 s")])
def test_seconds_are_shown_without_needless_digits(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
