"""Why an operation on files is refused."""

import errno
import os

_CODES = {
    errno.ENOENT: ("not-found", "there is nothing at {path}"),
    errno.EEXIST: ("exists", "{path} is there already"),
    errno.ENOTEMPTY: (
        "not-empty",
        "the folder {path} is not empty; send `recursive` to remove it with all that is in it (`?recursive=true`, or "
        '`"recursive": true` in the body)',
    ),
    errno.EISDIR: ("is-folder", "{path} is a folder"),
    errno.ENOTDIR: ("not-folder", "a part of {path} is no folder"),
    errno.ELOOP: ("link", "{path} leads through a link, and links are not followed"),
    errno.EXDEV: ("outside", "{path} leads out of the workspace"),
    errno.EACCES: ("denied", "{path} cannot be opened: its mode forbids it"),
    errno.EPERM: ("denied", "{path} cannot be changed"),
    errno.EROFS: ("denied", "{path} is read-only"),
    errno.ENOSPC: ("no-space", "there is no space left for {path}"),
    errno.EDQUOT: ("no-space", "there is no space left for {path}"),
    errno.EFBIG: ("too-large", "{path} would be larger than a file may be"),
    errno.ENXIO: ("not-file", "{path} is no regular file"),
    errno.ENAMETOOLONG: ("invalid", "{path} has a name that is too long"),
}


class Problem(Exception):
    """A refusal: ``code`` is one of a closed set, ``detail`` a sentence for the caller, ``facts`` what goes with it."""

    def __init__(self, code: str, detail: str, **facts: object) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.facts = facts

    @property
    def as_reply(self) -> dict[str, object]:
        """What is sent of it."""
        return {"error": {"code": self.code, "detail": self.detail, **self.facts}}


def problem_of(error: OSError, path: str) -> Problem:
    """What the system's ``error`` means for an operation on ``path``."""
    code, detail = _CODES.get(error.errno or 0, ("failed", ""))
    why = os.strerror(error.errno) if error.errno else str(error)
    return Problem(code, detail.format(path=repr(path)) if detail else f"{path!r}: {why}")
