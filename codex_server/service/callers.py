"""From a presented token to a caller that may do this."""

from codex_server.access.tokens import Scope, Verifier
from codex_server.errors import Forbidden, Unauthenticated
from codex_server.model import Caller

_UNKNOWN = (
    "the token is unknown, expired or revoked; send `Authorization: Bearer codex_...` with a token of this server"
)


def caller_by_token(verifier: Verifier, presented: str, scope: Scope) -> Caller:
    """The caller with the token ``presented``. Raises ``Unauthenticated``, or ``Forbidden`` without ``scope``."""
    token = verifier.verify(presented)
    if token is None:
        raise Unauthenticated(_UNKNOWN)
    if scope not in token.scopes:
        raise Forbidden(f"the token {token.name!r} lacks the scope {scope.value!r}; use one that has it")
    return Caller(token.id, token.name)


def anonymous_caller(address: str) -> Caller:
    """The caller of a server without tokens: distinguished by address."""
    return Caller(f"address:{address}", "anonymous")
