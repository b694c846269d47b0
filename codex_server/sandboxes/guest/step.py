"""Which step failed on the guest side: the server turns a step and its errno into a cause and a remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..protocol.slot import StepFailure


class StepFailed(Exception):
    """A step of building or arming failed; ``errno`` is None when it was not the kernel that refused."""

    def __init__(self, step: str, errno: int | None, message: str) -> None:
        super().__init__(f"{step}: {message}")
        self.step = step
        self.errno = errno
        self.message = message

    @property
    def as_message(self) -> StepFailure:
        """What is sent of it."""
        return StepFailure(self.step, self.errno, self.message[:2000])


@contextmanager
def step(name: str) -> Iterator[None]:
    """Name what is being done, so that a failure can be identified."""
    try:
        yield
    except StepFailed:
        raise
    except OSError as error:
        raise StepFailed(name, error.errno, str(error)) from error
    except Exception as error:
        raise StepFailed(name, None, f"{type(error).__name__}: {error}") from error
