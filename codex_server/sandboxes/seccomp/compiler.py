"""The syscall policy in the forms that enforce it: a BPF program for the kernel, a JSON profile for Docker. All pure.

The BPF program loads the call's number once and finds its answer by a binary search over ranges of numbers, so that a
call costs a handful of comparisons; where a range holds only a few odd numbers they are compared one by one, which is
shorter. When the filter is loaded, the kernel runs the search once per number and remembers what is always allowed.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from errno import ENOSYS
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from codex_server.errors import IsolationTooWeak
from codex_server.sandboxes.seccomp import syscalls
from codex_server.sandboxes.seccomp.rules import Match, Policy, Rule, Values

ALLOW: Final = 0x7FFF_0000
ERRNO: Final = 0x0005_0000
KILL_PROCESS: Final = 0x8000_0000

_LOAD, _AND, _JUMP, _RETURN = 0x20, 0x54, 0x05, 0x06
_IF_EQUAL, _IF_AT_LEAST = 0x15, 0x35
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16  # offsets in struct seccomp_data
_REACH = 255  # a conditional jump skips at most so many instructions
_WORD = 0xFFFF_FFFF
_ODD_ONES = 3  # so many lone numbers in a range are compared one by one

Answer = int | tuple[Rule, ...]
"""An errno (0 allows), or the rules that decide."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring numbers that share an answer."""

    first: int
    last: int
    answer: Answer


def compile_filter(policy: Policy, machine: str) -> bytes:
    """The policy as an array of ``struct sock_filter`` for ``machine`` (as ``uname -m`` calls it), for seccomp(2).

    The same policy and machine always give the same bytes. Raises ``IsolationTooWeak`` for a machine that has no table.
    """
    if machine not in syscalls.AUDIT_ARCH:
        known = " or ".join(syscalls.AUDIT_ARCH)
        raise IsolationTooWeak(
            f"There is no table of system calls for {machine}, so guests cannot be kept from dangerous ones. "
            f"Run the server on {known}."
        )
    program = _Program()
    program.search(_runs(policy, machine))
    start = program.emit(_LOAD, _NUMBER_AT)
    # INVARIANT: numbers mean nothing before the machine is known: another machine's call ends the process.
    program.branch(_IF_EQUAL, syscalls.AUDIT_ARCH[machine], start, program.answer(KILL_PROCESS))
    program.emit(_LOAD, _ARCH_AT)
    return program.packed()


def _runs(policy: Policy, machine: str) -> list[_Run]:
    """All numbers, as runs of equal answers, from 0 up to the largest."""
    names = syscalls.names(machine)
    answers = ((number, _answer(policy, names.get(number))) for number in range(syscalls.HORIZON + 1))
    starts = [(next(run)[0], answer) for answer, run in groupby(answers, key=itemgetter(1))]
    starts.append((syscalls.HORIZON + 1, ENOSYS))
    ends = [first - 1 for first, _ in starts[1:]] + [_WORD]
    return [_Run(first, last, answer) for (first, answer), last in zip(starts, ends, strict=True)]


def _answer(policy: Policy, call: str | None) -> Answer:
    if call is None or call in policy.refused:
        return policy.verdict(call, ())
    return policy.rules_of(call) or 0


@dataclass(slots=True)
class _Program:
    """A BPF program, written from its end: BPF only jumps forward, so each target is there before the jump to it.

    Places are counted from the end: the last instruction is at 0, the newest is ``top``.
    """

    code: list[tuple[int, int, int, int]] = field(default_factory=list)
    answers: dict[int, int] = field(default_factory=dict)

    @property
    def top(self) -> int:
        """The place of the instruction that comes first so far."""
        return len(self.code) - 1

    def emit(self, code: int, k: int, then: int = 0, otherwise: int = 0) -> int:
        """Put an instruction in front; return its place."""
        self.code.append((code, then, otherwise, k))
        return self.top

    def answer(self, action: int) -> int:
        """The place of the one instruction that ends with ``action``."""
        if action not in self.answers:
            self.answers[action] = self.emit(_RETURN, action)
        return self.answers[action]

    def branch(self, test: int, k: int, then: int, otherwise: int) -> int:
        """Compare what is loaded with ``k``; go on at one of two places."""
        then = self._near(then)
        otherwise = self._near(otherwise)
        return self.emit(test, k, self.top - then, self.top - otherwise)

    def _near(self, target: int) -> int:
        """A place from which the program goes on at ``target`` and that stays in reach for two more instructions."""
        if self.top - target <= _REACH - 2:
            return target
        return self.emit(_JUMP, self.top - target)

    def search(self, runs: Sequence[_Run]) -> int:
        """Find the run of the number that is loaded; return the place where the search starts."""
        common = min((run.answer for run in runs), key=lambda answer: len(_others(runs, answer)))
        odd = _others(runs, common)
        if len(odd) <= _ODD_ONES and all(run.first == run.last for run in odd):
            return self._compare(odd, common)
        middle = len(runs) // 2
        high = self.search(runs[middle:])
        low = self.search(runs[:middle])
        return self.branch(_IF_AT_LEAST, runs[middle].first, high, low)

    def _compare(self, odd: Sequence[_Run], common: Answer) -> int:
        """Judge the lone numbers of ``odd`` by their own answers, every other by the common one."""
        place = self._judge(common)
        for run in reversed(odd):
            place = self.branch(_IF_EQUAL, run.first, self._judge(run.answer), place)
        return place

    def _judge(self, answer: Answer) -> int:
        """Give an errno, or ask the rules one after the other."""
        if isinstance(answer, int):
            return self.answer(ERRNO | answer if answer else ALLOW)
        place = self.answer(ALLOW)
        for rule in reversed(answer):
            place = self._rule(rule, place)
        return place

    def _rule(self, rule: Rule, passed: int) -> int:
        """Go on at ``passed`` unless the call breaks ``rule``."""
        refused = self.answer(ERRNO | rule.errno)
        listed, unlisted = (passed, refused) if rule.read is Values.ONLY else (refused, passed)
        place = self._match(rule.match, listed, unlisted)
        return self._match(rule.where, place, passed) if rule.where else place

    def _match(self, match: Match, listed: int, unlisted: int) -> int:
        """Go on at ``listed`` when the argument is one of the values, else at ``unlisted``."""
        halves = [half for half in (0, 1) if match.mask >> 32 * half & _WORD]
        place = unlisted
        for value in reversed(match.values):
            hit, miss = listed, place
            # A value matches when each half that the mask keeps matches; each half is a load of its own.
            for half in reversed(halves):
                hit = place = self.branch(_IF_EQUAL, value >> 32 * half & _WORD, hit, miss)
                if len(halves) > 1 or value == match.values[0]:
                    hit = place = self._load(match, half)
        return place

    def _load(self, match: Match, half: int) -> int:
        """Load half of the argument and keep what the mask keeps, in front of the newest instruction."""
        mask = match.mask >> 32 * half & _WORD
        if mask != _WORD:
            self.emit(_AND, mask)
        return self.emit(_LOAD, _ARGUMENTS_AT + 8 * match.argument + 4 * half)

    def packed(self) -> bytes:
        """The program as the kernel reads it: ``struct sock_filter`` in the machine's byte order."""
        return b"".join(struct.pack("=HBBI", *instruction) for instruction in reversed(self.code))


def _others(runs: Sequence[_Run], answer: Answer) -> list[_Run]:
    return [run for run in runs if run.answer != answer]


def docker_profile(policy: Policy) -> dict[str, Any]:
    """The policy as a seccomp profile for Docker and other runtimes of OCI containers, for all our machines at once.

    It means the same as the compiled filter, with two differences that the format forces: a call that breaks the
    second or a later rule of several gets ENOSYS instead of the rule's errno, and the runtime decides how
    another machine's calls die.
    """
    calls = sorted({call for machine in syscalls.AUDIT_ARCH for call in syscalls.numbers(machine)})
    ruled = [call for call in calls if call not in policy.refused and policy.rules_of(call)]
    allowed = [call for call in calls if call not in policy.refused and call not in ruled]
    entries = [{"names": allowed, "action": "SCMP_ACT_ALLOW"}]
    for number in sorted(set(policy.refused.values())):
        names = [call for call in calls if policy.refused.get(call) == number]
        entries.append({"names": names, **_refusal(number)})
    entries += [entry for call in ruled for entry in _docker_entries(call, policy.rules_of(call))]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "archMap": [
            {"architecture": f"SCMP_ARCH_{machine.upper()}", "subArchitectures": []} for machine in syscalls.AUDIT_ARCH
        ],
        "syscalls": entries,
    }


def _refusal(number: int) -> dict[str, Any]:
    return {"action": "SCMP_ACT_ERRNO", "errnoRet": number}


_Pattern = dict[int, tuple[int, int]]
"""Conditions that must all hold, by argument: ``argument & mask == value``."""


def _docker_entries(call: str, rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """Entries that allow what passes every rule and refuse what breaks the first; no two of them overlap."""
    passes: list[_Pattern] = [{}]
    for rule in rules:
        passes = _both(passes, _passing(rule))
    refused = _both(_listed(rules[0].where), _refused(rules[0]))
    entries = [{"names": [call], "action": "SCMP_ACT_ALLOW", "args": _conditions(pattern)} for pattern in passes]
    return entries + [{"names": [call], **_refusal(rules[0].errno), "args": _conditions(one)} for one in refused]


def _conditions(pattern: _Pattern) -> list[dict[str, Any]]:
    return [
        {"index": argument, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
        for argument, (mask, value) in pattern.items()
    ]


def _passing(rule: Rule) -> list[_Pattern]:
    passes = _listed(rule.match) if rule.read is Values.ONLY else _unlisted(rule.match)
    return _unlisted(rule.where) + _both(_listed(rule.where), passes) if rule.where else passes


def _refused(rule: Rule) -> list[_Pattern]:
    return _unlisted(rule.match) if rule.read is Values.ONLY else _listed(rule.match)


def _listed(match: Match | None) -> list[_Pattern]:
    """The patterns of what meets the condition; without one, everything does."""
    return [{match.argument: (match.mask, value)} for value in match.values] if match else [{}]


def _unlisted(match: Match) -> list[_Pattern]:
    return [{match.argument: pair} for pair in _complement(match.mask, match.values)]


def _both(ones: Sequence[_Pattern], others: Sequence[_Pattern]) -> list[_Pattern]:
    """What meets a pattern of each. A runtime takes one condition for an argument, so two of them become one."""
    pairs = ((one, other) for one in ones for other in others)
    return [joined for one, other in pairs if (joined := _joined(one, other)) is not None]


def _joined(one: _Pattern, other: _Pattern) -> _Pattern | None:
    """None where nothing can meet both."""
    joined = dict(one)
    for argument, (mask, value) in other.items():
        known, wanted = joined.get(argument, (0, 0))
        if value & known != wanted & mask:
            return None
        joined[argument] = known | mask, wanted | value
    return joined


def _complement(mask: int, values: Sequence[int]) -> list[tuple[int, int]]:
    """Disjoint (mask, value) pairs that together match exactly what no ``value`` of (``mask``, value) matches.

    A plain "not equal" compares all 64 bits: rubbish in the upper half would slip past it, as in sandboxes before.
    """
    pairs: list[tuple[int, int]] = []
    prefixes = {0}
    seen = 0
    for bit in (1 << place for place in reversed(range(mask.bit_length())) if mask >> place & 1):
        seen |= bit
        wanted = {value & seen for value in values}
        pairs += [
            (seen, branch) for prefix in sorted(prefixes) for branch in (prefix, prefix | bit) if branch not in wanted
        ]
        prefixes = wanted
    return pairs
