"""``service/callers.py``: who a token belongs to, and whether it may do this."""

import pytest

from codex_server.access.tokens import FixedToken, Scope, TokenStore
from codex_server.errors import Forbidden, Unauthenticated
from codex_server.service.callers import anonymous_caller, caller_by_token

TOKEN = "codex_" + "a" * 40


def test_an_unknown_token_is_no_caller():
    with pytest.raises(Unauthenticated):
        caller_by_token(FixedToken(TOKEN), TOKEN[:-1] + "b", Scope.EXECUTE)


def test_a_token_may_do_what_its_scopes_allow_and_nothing_else(tmp_path):
    store = TokenStore(tmp_path)
    secret, _ = store.create("metrics-only", scopes=[Scope.METRICS])
    assert caller_by_token(store, secret, Scope.METRICS).name == "metrics-only"
    with pytest.raises(Forbidden, match="execute"):
        caller_by_token(store, secret, Scope.EXECUTE)


def test_without_tokens_callers_are_distinguished_by_address():
    assert anonymous_caller("10.0.0.1").key != anonymous_caller("10.0.0.2").key
    assert anonymous_caller("10.0.0.1").name == anonymous_caller("10.0.0.2").name
