"""An interpreter of classic BPF, and inputs that look for the edges of the policies."""

import struct
from functools import cache

from hypothesis import strategies as st

from codex_server.sandboxes.seccomp import syscalls
from codex_server.sandboxes.seccomp.compiler import ALLOW, ERRNO, compile_filter
from codex_server.sandboxes.seccomp.policy import POLICIES
from codex_server.sandboxes.seccomp.rules import Policy

WORD = 0xFFFF_FFFF
MACHINES = list(syscalls.AUDIT_ARCH)
KNOWN = sorted({call for machine in MACHINES for call in syscalls.numbers(machine)})


def interpret(program: bytes, arch: int, number: int, arguments: tuple[int, ...]) -> int:
    """What the program answers; it reads ``struct seccomp_data`` as the kernel lays it out."""
    data = struct.pack("<IIQ6Q", number, arch, 0xDEAD_BEEF, *arguments)
    code = list(struct.iter_unpack("=HBBI", program))
    loaded, at = 0, 0
    while True:
        operation, then, otherwise, k = code[at]
        at += 1
        match operation:
            case 0x20:
                assert k % 4 == 0 and k + 4 <= len(data)
                loaded = struct.unpack_from("<I", data, k)[0]
            case 0x54:
                loaded &= k
            case 0x05:
                at += k
            case 0x15:
                at += then if loaded == k else otherwise
            case 0x35:
                at += then if loaded >= k else otherwise
            case 0x25:
                at += then if loaded > k else otherwise
            case 0x06:
                return k
            case _:
                raise AssertionError(f"an operation that seccomp does not know: {operation:#x}")


def promised(policy: Policy, machine: str, number: int, arguments: tuple[int, ...]) -> int:
    answer = policy.verdict(syscalls.names(machine).get(number), arguments)
    return ERRNO | answer if answer else ALLOW


compiled = cache(compile_filter)

call_numbers = (
    st.integers(0, syscalls.HORIZON + 3) | st.integers(0, WORD) | st.integers(0, 600).map(lambda n: n | 1 << 30)
)
interesting = st.sampled_from(
    sorted({value for policy in POLICIES for rule in policy.rules for value in (*rule.values, rule.mask)} | {16, 40})
)
argument = st.one_of(
    interesting,
    st.tuples(interesting, st.integers(0, WORD)).map(lambda pair: pair[0] | pair[1] << 32),
    st.tuples(interesting, st.integers(0, 63)).map(lambda pair: pair[0] ^ 1 << pair[1]),
    st.integers(0, 2**64 - 1),
)
six_arguments = st.tuples(*[argument] * 6)
