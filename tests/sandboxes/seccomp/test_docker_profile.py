"""The Docker profile means what the policy means, in our reading and in libseccomp's, which container runtimes use."""

import ctypes
import errno
import json
import os
import tempfile
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_server.sandboxes.seccomp import syscalls
from codex_server.sandboxes.seccomp.compiler import ALLOW, ERRNO, docker_profile
from codex_server.sandboxes.seccomp.policy import CONFINED, CONTAINER, NAMESPACES, POLICIES
from codex_server.sandboxes.seccomp.rules import Match, Policy, Rule, Values
from tests.levels import out_of_reach
from tests.sandboxes.seccomp.bpf import KNOWN, MACHINES, interpret, six_arguments
from tests.tiers import examples

HERE = os.uname().machine

PROFILED = (*POLICIES, CONTAINER)

by_policy = pytest.mark.parametrize("policy", PROFILED, ids=lambda policy: policy.name)


def docker_answer(profile: dict, call: str, arguments: tuple[int, ...]) -> int:
    """The errno that the profile gives, or 0; it must not say two things."""
    found = set()
    for entry in profile["syscalls"]:
        if call in entry["names"]:
            conditions = entry.get("args", [])
            assert all(condition["op"] == "SCMP_CMP_MASKED_EQ" for condition in conditions)
            if all(arguments[one["index"]] & one["value"] == one["valueTwo"] for one in conditions):
                found.add(entry.get("errnoRet", 0))
    assert len(found) <= 1
    return found.pop() if found else profile["defaultErrnoRet"]


@cache
def profile_of(policy: Policy) -> dict:
    return docker_profile(policy)


@settings(max_examples=examples(400))
@given(st.sampled_from(PROFILED), st.sampled_from([*KNOWN, *[rule.call for rule in CONFINED.rules] * 8]), six_arguments)
def test_the_docker_profile_means_the_same(policy, call, arguments):
    answer, meant = docker_answer(profile_of(policy), call, arguments), policy.verdict(call, arguments)
    rules = () if call in policy.refused else policy.rules_of(call)
    breaks_a_later_rule = meant and rules and not rules[0].refuses(arguments)
    assert answer == (errno.ENOSYS if breaks_a_later_rule else meant)


@by_policy
def test_the_docker_profile_has_the_shape_that_docker_reads(policy):
    profile = json.loads(json.dumps(docker_profile(policy)))
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile["defaultErrnoRet"] == errno.ENOSYS
    assert [arch["architecture"] for arch in profile["archMap"]] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]
    assert all(arch["subArchitectures"] == [] for arch in profile["archMap"])
    for entry in profile["syscalls"]:
        assert set(entry) <= {"names", "action", "errnoRet", "args"}
        assert entry["names"]
        assert set(entry["names"]) <= set(KNOWN)
        assert (entry["action"] == "SCMP_ACT_ERRNO") is ("errnoRet" in entry)
        assert entry["action"] in ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO")
        for condition in entry.get("args", []):
            assert set(condition) == {"index", "value", "valueTwo", "op"}
        indexes = [condition["index"] for condition in entry.get("args", [])]
        assert len(indexes) == len(set(indexes))
    unconditional = [name for entry in profile["syscalls"] if "args" not in entry for name in entry["names"]]
    assert len(unconditional) == len(set(unconditional))


def test_the_docker_profile_answers_clone3_by_name():
    entries = [entry for entry in docker_profile(NAMESPACES)["syscalls"] if "clone3" in entry["names"]]
    assert entries == [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS}]


TWICE = Policy(
    "two rules for one argument, the second where another one is 7",
    (),
    (
        Rule("ioctl", 1, 0xF, (1,), Values.NEVER, "one", 7),
        Rule("ioctl", 1, 0xF0, (0x20, 0x30), Values.ONLY, "two", 8, Match(0, 0xFF, (7,))),
    ),
)


@pytest.mark.parametrize("first", [6, 7, 1 << 40 | 7])
@pytest.mark.parametrize("second", [0x20, 0x21, 0x32, 0x41, 0x42, 1 << 40 | 0x30])
def test_several_rules_for_one_argument_become_one_condition(first, second):
    arguments = (first, second, 0, 0, 0, 0)
    meant = TWICE.verdict("ioctl", arguments)
    assert docker_answer(docker_profile(TWICE), "ioctl", arguments) == {8: errno.ENOSYS}.get(meant, meant)


class Comparison(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def libseccomp() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        out_of_reach("libseccomp", error)
    library.seccomp_init.restype = ctypes.c_void_p
    return library


def as_a_runtime_builds_it(profile: dict) -> bytes:
    """What runc does with a profile: unknown names are left out, an action equal to the default is left out."""
    library = libseccomp()
    default = ERRNO | profile["defaultErrnoRet"]
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    for entry in profile["syscalls"]:
        action = ERRNO | entry["errnoRet"] if "errnoRet" in entry else ALLOW
        if action == default:
            continue
        conditions = [Comparison(one["index"], 7, one["value"], one["valueTwo"]) for one in entry.get("args", [])]
        for name in entry["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number != -1:
                array = (Comparison * len(conditions))(*conditions)
                code = library.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, len(conditions), array)
                assert code == 0, (name, os.strerror(-code))
    with tempfile.TemporaryFile() as file:
        assert library.seccomp_export_bpf(context, file.fileno()) == 0
        library.seccomp_release(context)
        file.seek(0)
        return file.read()


@pytest.mark.skipif(HERE not in MACHINES, reason=f"there is no table of system calls for {HERE}")
@pytest.mark.parametrize("policy", [NAMESPACES, CONTAINER], ids=lambda policy: policy.name)
def test_libseccomp_makes_the_same_filter_of_the_docker_profile(policy):
    program = as_a_runtime_builds_it(docker_profile(policy))
    library = libseccomp()

    @settings(max_examples=examples(500))
    @given(st.sampled_from([*KNOWN, *[rule.call for rule in policy.rules] * 8]), six_arguments)
    def same(call, arguments):
        number = syscalls.numbers(HERE).get(call)
        if number is None or library.seccomp_syscall_resolve_name(call.encode()) != number:
            return
        answer = interpret(program, syscalls.AUDIT_ARCH[HERE], number, arguments)
        meant = docker_answer(profile_of(policy), call, arguments)
        assert answer == (ERRNO | meant if meant else ALLOW)

    same()
