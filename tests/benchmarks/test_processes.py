import os

import pytest

from benchmarks.processes import Memory, Process, family_in, family_of, parse_memory, parse_stat

_ZEROS = "0 " * 10


def test_a_stat_line_is_read_whatever_the_name():
    ticks = os.sysconf("SC_CLK_TCK")
    line = f"42 (a) b (c)) S 7 1 1 0 -1 4194560 1 2 3 4 {ticks} {2 * ticks} {3 * ticks} {4 * ticks} 20 0 1 {_ZEROS}"

    assert parse_stat(line) == Process(42, 7, 3.0, 7.0)


def test_memory_is_read_in_bytes():
    text = (
        "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss:  9 kB\nPss:   10 kB\nPrivate_Clean: 1 kB\nPrivate_Dirty: 2 kB\n"
    )

    assert parse_memory(text) == Memory(10 * 1024, 3 * 1024, 9 * 1024)


def _process(pid: int, parent: int, own: float = 1.0, children: float = 0.0) -> Process:
    return Process(pid, parent, own, children)


FAMILY = [
    _process(1, 0),
    _process(10, 1),  # the server
    _process(20, 10, own=0.5),  # its launcher
    _process(30, 20, own=2.0, children=8.0),  # the zygote
    _process(40, 30),  # an init
    _process(50, 30),  # its worker, which the zygote forked
    _process(51, 50),  # and what the worker started
    _process(41, 30),  # another init
    _process(99, 1),  # a stranger
]


def is_first(process: Process) -> bool:
    return process.pid in (40, 41)


def test_a_family_is_server_launcher_zygote_inits_and_workers():
    family = family_in(FAMILY, 10, is_first)

    assert family.server.pid == 10
    assert [process.pid for process in family.launchers] == [20]
    assert [process.pid for process in family.zygotes] == [30]
    assert [process.pid for process in family.inits] == [40, 41]
    assert [process.pid for process in family.workers] == [50, 51]


def test_an_init_without_a_pid_namespace_is_known_by_its_worker():
    without = [process for process in FAMILY if process.pid != 50]
    family = family_in([*without, _process(50, 40), _process(60, 41)], 10, lambda process: False)

    assert [process.pid for process in family.inits] == [40, 41]
    assert [process.pid for process in family.workers] == [50, 60, 51]


def test_processor_time_counts_everyone_who_runs_and_who_has_ended():
    alive = sum(process.own_cpu_seconds + process.children_cpu_seconds for process in FAMILY[4:8])
    assert family_in(FAMILY, 10, is_first).cpu_seconds == 1.0 + 0.5 + 2.0 + 8.0 + alive


def test_a_server_that_is_gone_has_no_family():
    with pytest.raises(KeyError):
        family_in(FAMILY, 12, is_first)


def test_this_process_has_a_family():
    assert family_of(os.getpid()).server.parent == os.getppid()
