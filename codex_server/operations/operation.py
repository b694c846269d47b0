"""What a caller can ask for: a name, shapes in and out, what it can change, and its handler."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from pydantic import BaseModel

from codex_server.model import Caller
from codex_server.operations.context import Context

Input = TypeVar("Input", bound=BaseModel)
Output = TypeVar("Output", bound=BaseModel)


class Effect(StrEnum):
    """What an operation can change."""

    READ = "read"
    """Nothing."""
    WRITE = "write"
    """Files of a workspace, or state of the server."""
    RUN = "run"
    """What a program can: nothing outside of its sandbox."""
    OUTSIDE = "outside"
    """Things outside of this server."""

    @property
    def lasts(self) -> bool:
        """Whether something is different afterwards: a sandbox has no network, and nothing in it lasts."""
        return self in (Effect.WRITE, Effect.OUTSIDE)


class NoInput(BaseModel):
    """The input of an operation that takes none."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[Input, Output]):
    """One operation. ``name`` is in snake case; ``title`` is a few words, ``summary`` at most 300 characters."""

    name: str
    title: str
    summary: str
    effect: Effect
    input: type[Input]
    output: type[Output]
    handler: Callable[[Caller, Input, Context], Awaitable[Output]]

    async def __call__(self, caller: Caller, request: Input, context: Context) -> Output:
        """Do it for ``caller``. Raises a ``CodexError`` that says why it was refused."""
        return await self.handler(caller, request, context)
