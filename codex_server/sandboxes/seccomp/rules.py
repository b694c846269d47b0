"""The parts of a system call policy: groups of calls that are refused, and rules that look at arguments."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from errno import ENOSYS, EPERM


@dataclass(frozen=True, slots=True)
class Group:
    """Calls that are refused whatever their arguments."""

    title: str
    reason: str
    calls: tuple[str, ...]
    errno: int = EPERM


class Values(Enum):
    """How a rule reads its values."""

    ONLY = "only"
    """These are allowed, any other is refused."""
    NEVER = "never"
    """These are refused, any other is allowed."""


@dataclass(frozen=True, slots=True)
class Match:
    """A condition on one argument: ``argument & mask`` is one of ``values``.

    Arguments are numbered from 0 and are 64 bits wide. INVARIANT: where the kernel takes an ``int`` the mask keeps the
    low 32 bits, so a value with rubbish in its upper half is judged as the kernel will understand it.
    Raises ``ValueError`` for a condition that can never be met.
    """

    argument: int
    mask: int
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) < len(self.values):
            raise ValueError("values are missing or given twice")
        if not 0 < self.mask < 1 << 64 or any(value & ~self.mask for value in self.values):
            raise ValueError("a value lies outside the mask, so it can never be met")

    def holds(self, arguments: Sequence[int]) -> bool:
        """Whether a call with these six arguments meets it."""
        return arguments[self.argument] & self.mask in self.values


@dataclass(frozen=True, slots=True)
class Rule:
    """A call that is judged by one of its arguments, as ``Match`` compares it with ``values``.

    ``where``: a condition on another argument, without which the rule says nothing.
    """

    call: str
    argument: int
    mask: int
    values: tuple[int, ...]
    read: Values
    reason: str
    errno: int = EPERM
    where: Match | None = None

    def __post_init__(self) -> None:
        if self.where and self.where.argument == self.argument:
            raise ValueError(f"{self.call}: a rule and its condition look at the same argument")
        self.match  # noqa: B018 - it refuses values that can never be met

    @property
    def match(self) -> Match:
        """What its argument is compared with."""
        return Match(self.argument, self.mask, self.values)

    def refuses(self, arguments: Sequence[int]) -> bool:
        """Whether a call with these six arguments breaks the rule."""
        if self.where and not self.where.holds(arguments):
            return False
        return self.match.holds(arguments) is (self.read is Values.NEVER)


@dataclass(frozen=True, slots=True)
class Policy:
    """A set of groups and rules; groups go before rules, rules stand in the order in which they are judged."""

    name: str
    groups: tuple[Group, ...]
    rules: tuple[Rule, ...]

    def verdict(self, call: str | None, arguments: Sequence[int]) -> int:
        """The errno that answers ``call``, or 0 when it is allowed; ``call`` is None for a number without a name."""
        if call is None:
            return ENOSYS
        if call in self.refused:
            return self.refused[call]
        return next((rule.errno for rule in self.rules_of(call) if rule.refuses(arguments)), 0)

    def allowing(self, name: str, calls: Collection[str]) -> "Policy":
        """This policy without whatever it has against ``calls``."""
        kept = ((group, tuple(call for call in group.calls if call not in calls)) for group in self.groups)
        return Policy(
            name,
            tuple(replace(group, calls=left) for group, left in kept if left),
            tuple(rule for rule in self.rules if rule.call not in calls),
        )

    @property
    def refused(self) -> dict[str, int]:
        """Each call of the groups, and its errno."""
        return {call: group.errno for group in self.groups for call in group.calls}

    def rules_of(self, call: str) -> tuple[Rule, ...]:
        """The rules for ``call``, in order."""
        return tuple(rule for rule in self.rules if rule.call == call)
