"""Which parts of a request are at fault: field errors, and the refusals that carry them."""

from collections.abc import Sequence
from dataclasses import dataclass

from codex_server.errors import InvalidRequest, LimitTooLoose


@dataclass(frozen=True, slots=True)
class FieldError:
    """One part of the request at fault; ``pointer`` is a JSON Pointer into the body."""

    pointer: str
    detail: str


class FieldsInvalid(InvalidRequest):
    """One or more fields of the body are wrong; each is a ``FieldError``."""

    def __init__(self, field_errors: Sequence[FieldError]) -> None:
        first = field_errors[0]
        more = f" (and {len(field_errors) - 1} more, in `errors`)" if len(field_errors) > 1 else ""
        super().__init__(f"{first.detail}{more}", first.pointer)
        self.field_errors = tuple(field_errors)


class LimitsTooLoose(FieldsInvalid, LimitTooLoose):
    """One or more limits are above their ceilings; each is a ``FieldError``."""


def escape_pointer(name: str) -> str:
    """One step of a JSON Pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
