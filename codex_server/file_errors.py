"""Why an operation on the files of a session is refused.

::

    CodexError
    `- FileRefused                an operation on the files of a session is refused
        |- UnknownPath            there is nothing at that path
        |- FileConflict           what is there stands in the way, or was not read
        |- FileChanged            the file is not the one that the request names
        `- EditRefused            a text to be replaced is not found exactly once
"""

from codex_server.errors import CodexError


class FileRefused(CodexError):
    """An operation on the files of a session is refused; ``facts`` are what the caller can go on with."""

    slug = "file-refused"
    title = "The operation on files is refused"

    def __init__(self, detail: str, **facts: object) -> None:
        super().__init__(detail)
        self.facts = facts


class UnknownPath(FileRefused):
    """There is nothing at this path of the workspace."""

    slug = "unknown-path"
    title = "There is nothing at this path"


class FileConflict(FileRefused):
    """What is there stands in the way of the operation, or the caller has not read what it would replace."""

    slug = "file-conflict"
    title = "What is there stands in the way"


class FileChanged(FileRefused):
    """The file does not have the entity tag that the request names (``If-Match``, ``If-None-Match``)."""

    slug = "file-changed"
    title = "The file is another one by now"


class EditRefused(FileRefused):
    """A text to be replaced is not found, or found at several places; nothing was changed."""

    slug = "edit-refused"
    title = "The edit does not fit the file"
