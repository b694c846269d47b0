"""Operations on the files of a session, carried out as the guest."""

from typing import NoReturn


def serve(channel: int) -> NoReturn:
    """Serve."""
    raise NotImplementedError
