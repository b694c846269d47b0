"""The compiled filter says what the policy says, for every input (in an interpreter)."""

import errno
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_server.errors import IsolationTooWeak
from codex_server.sandboxes.seccomp import syscalls
from codex_server.sandboxes.seccomp.compiler import ALLOW, ERRNO, KILL_PROCESS, compile_filter
from codex_server.sandboxes.seccomp.policy import CONFINED, NAMESPACES, POLICIES
from codex_server.sandboxes.seccomp.rules import Group, Match, Policy, Rule, Values
from tests.sandboxes.seccomp.bpf import (
    KNOWN,
    MACHINES,
    WORD,
    argument,
    call_numbers,
    compiled,
    interpret,
    promised,
    six_arguments,
)
from tests.tiers import examples

by_policy = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
by_machine = pytest.mark.parametrize("machine", MACHINES)


@settings(max_examples=examples(300))
@given(st.sampled_from(POLICIES), st.sampled_from(MACHINES), call_numbers, six_arguments)
def test_the_filter_answers_as_the_policy_does(policy, machine, number, arguments):
    answer = interpret(compiled(policy, machine), syscalls.AUDIT_ARCH[machine], number, arguments)
    assert answer == promised(policy, machine, number, arguments)


@settings(max_examples=examples(300))
@given(st.sampled_from(POLICIES), st.sampled_from([rule.call for rule in CONFINED.rules]), six_arguments)
def test_the_filter_judges_arguments_as_the_policy_does(policy, call, arguments):
    for machine in MACHINES:
        number = syscalls.numbers(machine)[call]
        answer = interpret(compiled(policy, machine), syscalls.AUDIT_ARCH[machine], number, arguments)
        assert answer == promised(policy, machine, number, arguments)


@by_policy
@by_machine
def test_every_number_below_the_horizon_is_answered_as_promised(policy, machine):
    program = compile_filter(policy, machine)
    for number in [*range(syscalls.HORIZON + 40), WORD, WORD >> 1, 1 << 30, 1 << 31]:
        for arguments in ((0,) * 6, (2**64 - 1,) * 6):
            answer = interpret(program, syscalls.AUDIT_ARCH[machine], number, arguments)
            assert answer == promised(policy, machine, number, arguments), (number, arguments)


@by_machine
@given(arch=st.integers(0, WORD), number=call_numbers)
def test_calls_of_another_machine_kill_the_process(machine, arch, number):
    if arch != syscalls.AUDIT_ARCH[machine]:
        assert interpret(compiled(NAMESPACES, machine), arch, number, (0,) * 6) == KILL_PROCESS


def test_32_bit_x86_is_another_machine():
    assert interpret(compiled(NAMESPACES, "x86_64"), 0x4000_0003, 20, (0,) * 6) == KILL_PROCESS


@st.composite
def rules(draw):
    mask = draw(
        st.integers(1, 2**64 - 1) | st.sampled_from([1, 0xF, WORD, WORD << 32, 2**64 - 1, 1 << 32 | 1, 1 << 63])
    )
    values = draw(st.lists(argument.map(lambda value: value & mask), min_size=1, max_size=5, unique=True))
    read = draw(st.sampled_from(list(Values)))
    number = draw(st.integers(1, 133))
    at, other = draw(st.lists(st.integers(0, 5), min_size=2, max_size=2, unique=True))
    where = draw(
        st.none()
        | st.builds(Match, st.just(other), st.just(WORD), st.just(tuple(value & WORD for value in values[:1])))
    )
    return Rule(draw(st.sampled_from(KNOWN)), at, mask, tuple(values), read, "any", number, where)


policies = st.builds(
    lambda calls, number, drawn: Policy("any", (Group("any", "any", tuple(calls), number),), tuple(drawn)),
    st.lists(st.sampled_from(KNOWN), max_size=120, unique=True),
    st.integers(1, 133),
    st.lists(rules(), max_size=40),
)


@settings(max_examples=examples(60))
@given(policies, st.sampled_from(MACHINES), st.data())
def test_any_policy_compiles_to_what_it_means(policy, machine, data):
    program = compile_filter(policy, machine)
    table = syscalls.numbers(machine)
    ruled = [table[rule.call] for rule in policy.rules if rule.call in table]
    near = [mixed for rule in policy.rules for mixed in rule.values]
    values = st.sampled_from(near) | argument if near else argument
    for _ in range(20):
        number = data.draw(st.sampled_from(ruled) | call_numbers if ruled else call_numbers)
        arguments = data.draw(st.tuples(*[values] * 6))
        answer = interpret(program, syscalls.AUDIT_ARCH[machine], number, arguments)
        assert answer == promised(policy, machine, number, arguments)


@by_machine
def test_a_policy_longer_than_the_reach_of_a_jump_compiles_too(machine):
    groups = tuple(Group(call, "any", (call,), 1 + place % 133) for place, call in enumerate(KNOWN) if place % 3)
    judged = [call for place, call in enumerate(KNOWN) if place % 3 == 0]
    rules = [
        Rule(call, place % 6, 2**64 - 1, (place, 2**40 + place, 2**63), read, "any", 1 + place % 133)
        for place, call in enumerate(judged)
        for read in (Values.NEVER, Values.ONLY)
    ]
    policy = Policy("long", groups, tuple(rules))
    program = compile_filter(policy, machine)
    assert len(program) // 8 > 3 * 255
    table = syscalls.numbers(machine)
    known = [table[call] for call in KNOWN if call in table]
    for number in [*known, 400, syscalls.HORIZON + 1, WORD]:
        for value in (0, 2**63, *range(number, number + 3), 2**40):
            arguments = (value,) * 6
            answer = interpret(program, syscalls.AUDIT_ARCH[machine], number, arguments)
            assert answer == promised(policy, machine, number, arguments)


def test_a_policy_without_entries_still_ends_at_the_horizon():
    program = compile_filter(Policy("empty", (), ()), "x86_64")
    arch = syscalls.AUDIT_ARCH["x86_64"]
    assert interpret(program, arch, syscalls.numbers("x86_64")["mount"], (0,) * 6) == ALLOW
    assert interpret(program, arch, syscalls.HORIZON + 1, (0,) * 6) == ERRNO | errno.ENOSYS


@by_policy
@by_machine
def test_the_filter_is_short_and_always_the_same(policy, machine):
    program = compile_filter(policy, machine)
    assert program == compile_filter(replace(policy), machine)
    assert len(program) % 8 == 0
    assert len(program) // 8 < 600


def test_a_machine_without_a_table_is_refused_with_the_remedy():
    with pytest.raises(
        IsolationTooWeak, match=r"no table of system calls for riscv64.*Run the server on x86_64 or aarch64"
    ):
        compile_filter(NAMESPACES, "riscv64")
