"""The tables of system calls agree with the headers of the machine that runs the tests, where it has them."""

import re
from pathlib import Path

import pytest

from codex_server.sandboxes.seccomp import syscalls
from tests.levels import out_of_reach

HEADERS = {
    "x86_64": (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")),
    "aarch64": (Path("/usr/include/asm-generic/unistd.h"),),
}
RENAMED_ON_64_BITS = {"fstatat": "newfstatat"}
NOT_A_CALL_OF_ARM64 = {"syscalls", "arch_specific_syscall", "sync_file_range2"}


def header_of(machine: str) -> str:
    for path in HEADERS[machine]:
        if path.exists():
            return path.read_text()
    out_of_reach("kernel-headers", f"those for {machine} are not installed here")


def pairs_of(text: str, prefix: str) -> list[tuple[str, int]]:
    return [(name, int(number)) for name, number in re.findall(rf"#define {prefix}_(\w+)\s+(\d+)\b", text)]


def test_the_x86_64_numbers_are_those_of_the_header():
    header = dict(pairs_of(header_of("x86_64"), "__NR"))
    table = syscalls.numbers("x86_64")
    known_to_both = {name: table.get(name) for name, number in header.items() if number <= syscalls.HORIZON}
    assert len(known_to_both) > 300
    assert known_to_both == {name: number for name, number in header.items() if number <= syscalls.HORIZON}


def test_the_aarch64_numbers_are_those_of_the_generic_header():
    text = header_of("aarch64")
    old = {RENAMED_ON_64_BITS.get(name, name): number for name, number in pairs_of(text, "__NR3264")}
    own = {name: number for name, number in pairs_of(text, "__NR") if name not in NOT_A_CALL_OF_ARM64}
    only_32_bit = range(403, 424)
    header = {
        name: number for name, number in (old | own).items() if number <= syscalls.HORIZON and number not in only_32_bit
    }
    table = syscalls.numbers("aarch64")
    assert len(header) > 250
    assert {name: table.get(name) for name in header} == header


@pytest.mark.parametrize("machine", syscalls.AUDIT_ARCH)
def test_every_number_has_one_name_and_the_last_is_the_horizon(machine):
    table = syscalls.numbers(machine)
    assert len(syscalls.names(machine)) == len(table)
    assert max(table.values()) == syscalls.HORIZON
    assert min(table.values()) == 0
    assert syscalls.HORIZON < syscalls.X32_BIT


def test_both_machines_number_the_calls_since_424_alike():
    newer = [
        {name: number for name, number in syscalls.numbers(machine).items() if number >= 424}
        for machine in syscalls.AUDIT_ARCH
    ]
    assert newer[0] == newer[1]
    assert len(newer[0]) == syscalls.HORIZON - 424 + 1


def test_a_machine_without_a_table_is_not_guessed():
    with pytest.raises(KeyError):
        syscalls.numbers("riscv64")
