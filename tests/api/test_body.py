"""Reading a body into an object."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from codex_server.api.body import MAX_VALUES, count_separators, parse_object

VALUES = st.recursive(
    st.none() | st.integers() | st.text(alphabet='\\"[]{}:, aé', max_size=12),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text(alphabet='\\"[,', max_size=4), inner, max_size=6)
    ),
)


def test_no_text_of_a_request_stays_in_the_parser():
    body = b'{"env": {"TOKEN": "a-secret-of-this-caller"}, "code": "print(1)"}'

    first, second = parse_object(body, "{}"), parse_object(body, "{}")

    # A text that the parser kept would be the same object again.
    assert first["env"]["TOKEN"] is not second["env"]["TOKEN"]
    assert first["code"] is not second["code"]


@given(VALUES, st.booleans())
def test_separators_in_texts_are_not_counted_and_all_others_are(value, readable):
    filling = "x" * 2 * MAX_VALUES
    body = json.dumps([filling, value], ensure_ascii=not readable).encode()

    without_texts = re.sub(r'"(?:[^"\\]|\\.)*"', "", body.decode())

    assert count_separators(body) == len(re.findall(r"[,:\[{]", without_texts))


def test_the_largest_request_that_is_taken_is_far_from_the_cap_on_values():
    files = [{"path": f"{n}", "content": '"' * 50, "encoding": "base64"} for n in range(1000)]
    body = json.dumps(
        {"code": "x" * 2**20, "files": files, "args": ["\\"] * 1024, "env": {f"{n}": "" for n in range(1024)}}
    )

    assert 0 < count_separators(body.encode()) < 2 * MAX_VALUES


def test_a_table_of_numbers_in_a_text_is_no_matter():
    body = json.dumps({"code": "p", "stdin": "1,2,[3]:{4}\n" * 50_000}).encode()

    assert count_separators(body) == 4
    assert parse_object(body, "{}")["code"] == "p"
