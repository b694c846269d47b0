"""``cli/threads.py``: work is done by threads that were there before."""

import threading

from codex_server.cli.threads import started_threads


def test_giving_work_makes_no_thread(monkeypatch):
    with started_threads() as executor:

        def none_left(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", none_left)
        assert [executor.submit(str, number).result() for number in range(100)] == [str(n) for n in range(100)]
