"""Reading a body into an object."""

from codex_server.api.body import parse_object


def test_no_text_of_a_request_stays_in_the_parser():
    body = b'{"env": {"TOKEN": "a-secret-of-this-caller"}, "code": "print(1)"}'

    first, second = parse_object(body), parse_object(body)

    # A text that the parser kept would be the same object again.
    assert first["env"]["TOKEN"] is not second["env"]["TOKEN"]
    assert first["code"] is not second["code"]
