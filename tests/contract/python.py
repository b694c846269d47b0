"""What a Python program expects of a real ``python3 main.py``."""

from codex_server.model import Status
from tests.contract.case import Case, only

_SHARED_MEMORY = ("full", "namespaces")
"""Where a guest has a /dev/shm of its own; without one there are no semaphores between processes."""


def _python(name: str, source: str, *ending: object, **expected: object) -> Case:
    return Case(name, only("python", source), *ending, **expected)  # type: ignore[arg-type]


CASES = [
    _python(
        "exits_with_a_text", "import sys; sys.exit('what went wrong')", Status.FAILED, 1, stderr="what went wrong\n"
    ),
    _python("exits_with_none_and_true", "import sys; sys.exit(None)"),
    _python("exits_beyond_a_byte", "import sys; sys.exit(256 + 7)", Status.FAILED, 7),
    _python(
        "is_interrupted_by_its_own_exception",
        "raise KeyboardInterrupt",
        Status.SIGNALLED,
        130,
        "SIGINT",
        stderr="KeyboardInterrupt",
    ),
    _python(
        "ends_with_a_traceback_of_its_own_lines_alone",
        """
        import sys, traceback
        def divide(by):
            return 1 / by
        try:
            divide(0)
        except ZeroDivisionError:
            told = traceback.format_exc().splitlines()
        print([line.strip() for line in told if "main.py" in line or "File" in line][-1].endswith("line 3, in divide"))
        print(sum("File" in line for line in told))
        divide(0)
        """,
        Status.FAILED,
        1,
        stdout="True\n2\n",
        stderr="line 10, in <module>\n    divide(0)\n",
    ),
    _python(
        "finds_the_standard_library_and_no_packages_of_the_host_s_python",
        """
        import inspect, subprocess, sys
        def look():
            import os, site, sys
            try:
                import pip
            except ModuleNotFoundError as error:
                print(error)
            print([folder for folder in sys.path if "-packages" in os.path.basename(folder) and os.listdir(folder)])
            print(os.path.dirname(os.__file__) in sys.path, callable(exit), callable(help))
        look()
        for child in ("python3", sys.executable):
            print(subprocess.check_output([child, "-c", inspect.getsource(look) + "look()"], text=True), end="")
        """,
        stdout="No module named 'pip'\n[]\nTrue True True\n" * 3,
    ),
    _python(
        "tells_of_a_syntax_error", "print('a')\nif\n", Status.FAILED, 1, stdout="", stderr="SyntaxError: invalid syntax"
    ),
    _python(
        "is_main_in_a_file_of_its_own",
        """
        import os, sys, __main__
        print(__name__, os.path.basename(__file__), os.path.basename(sys.argv[0]), __main__.__file__ == __file__)
        print(os.path.samefile(sys.path[0], os.getcwd()), os.listdir("."))
        """,
        stdout="__main__ main.py main.py True\nTrue ['main.py']\n",
    ),
    _python(
        "imports_a_module_it_was_given",
        "import mine; print(mine.ANSWER)",
        files={"mine.py": b"ANSWER = 42\n"},
        stdout="42\n",
        left=None,
    ),
    _python(
        "leaves_by_the_front_door",
        """
        import atexit, threading, time
        atexit.register(print, "third")
        def work():
            time.sleep(0.2)
            print("second")
        threading.Thread(target=work).start()
        print("first")
        """,
        stdout="first\nsecond\nthird\n",
    ),
    _python("does_not_flush_when_it_leaves_by_the_window", "import os; print('lost', end=''); os._exit(0)", stdout=""),
    _python(
        "handles_signals",
        """
        import os, signal
        signal.signal(signal.SIGUSR1, lambda number, frame: print("got", number == signal.SIGUSR1))
        os.kill(os.getpid(), signal.SIGUSR1)
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            print("interrupted")
        """,
        stdout="got True\ninterrupted\n",
    ),
    _python(
        "uses_threads",
        """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(8) as pool:
            print(sum(pool.map(lambda n: n * n, range(100))))
        """,
        stdout="328350\n",
    ),
    _python(
        "uses_subprocesses",
        """
        import subprocess, sys
        child = [sys.executable, "-c", "print(input() * 2)"]
        print(subprocess.run(child, input="ab", text=True, capture_output=True).stdout, end="")
        print(subprocess.check_output("echo $((6 * 7))", shell=True, text=True), end="")
        print(subprocess.run(["sh", "-c", "exit 9"]).returncode)
        """,
        stdout="abab\n42\n9\n",
    ),
    *(
        _python(
            f"uses_multiprocessing_by_{method}",
            f"""
            import multiprocessing
            def square(number):
                return number * number
            if __name__ == "__main__":
                with multiprocessing.get_context("{method}").Pool(2) as pool:
                    print(sum(pool.map(square, range(10))))
            """,
            stdout="285\n",
            levels=_SHARED_MEMORY,
        )
        for method in ("fork", "spawn", "forkserver")
    ),
    _python(
        "shares_memory_and_locks_between_processes",
        """
        import multiprocessing
        def add(counter):
            for _ in range(100):
                with counter.get_lock():
                    counter.value += 1
        if __name__ == "__main__":
            counter = multiprocessing.Value("i", 0)
            workers = [multiprocessing.Process(target=add, args=(counter,)) for _ in range(3)]
            for worker in workers: worker.start()
            for worker in workers: worker.join()
            print(counter.value)
        """,
        stdout="300\n",
        levels=_SHARED_MEMORY,
    ),
    _python(
        "works_in_parallel_without_shared_memory",
        """
        import os
        reader, writer = os.pipe()
        for number in range(4):
            if os.fork() == 0:
                os.write(writer, bytes([number * number]))
                os._exit(0)
        for _ in range(4):
            os.wait()
        print(sum(os.read(reader, 4)))
        """,
        stdout="14\n",
    ),
    _python(
        "uses_temporary_files",
        """
        import tempfile, os
        with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"x" * 1000); file.flush()
            print(os.path.getsize(file.name), os.path.isdir(tempfile.gettempdir()))
        """,
        stdout="1000 True\n",
    ),
    _python(
        "uses_sqlite",
        """
        import sqlite3
        with sqlite3.connect("a.db") as db:
            db.execute("create table t (n int)")
            db.executemany("insert into t values (?)", [(n,) for n in range(10)])
        print(db.execute("select sum(n) from t").fetchone()[0])
        db.close()
        import os; os.remove("a.db")
        """,
        stdout="45\n",
    ),
    _python(
        "serves_itself_over_its_own_loopback",
        """
        import http.server, threading, urllib.request
        class Hello(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200); self.end_headers(); self.wfile.write(b"hello")
            def log_message(self, *_): pass
        server = http.server.HTTPServer(("127.0.0.1", 0), Hello)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/").read().decode())
        """,
        stdout="hello\n",
        levels=("full", "namespaces"),
    ),
    _python(
        "has_no_network",
        """
        import socket
        for host in ("1.1.1.1", "169.254.169.254", "10.0.0.1"):
            try:
                socket.create_connection((host, 80), timeout=2)
                print("reached", host)
            except OSError:
                pass
        try:
            socket.getaddrinfo("example.org", 80)
            print("resolved")
        except OSError:
            print("none")
        """,
        stdout="none\n",
    ),
    _python(
        "uses_asyncio",
        """
        import asyncio, sys
        async def main():
            command = (sys.executable, "-c", "print(5)")
            child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            out, _ = await child.communicate()
            return int(out) + sum(await asyncio.gather(*(asyncio.sleep(0, n) for n in range(10))))
        print(asyncio.run(main()))
        """,
        stdout="50\n",
    ),
    _python(
        "recurses_until_python_stops_it", "def f(n): return f(n + 1)\nf(0)", Status.FAILED, 1, stderr="RecursionError"
    ),
    _python(
        "recurses_until_its_stack_is_gone",
        """
        import ctypes
        ctypes.string_at(0)
        """,
        Status.SIGNALLED,
        139,
        "SIGSEGV",
    ),
    *(
        _python(
            f"cannot_start_{what}_processes_than_allowed",
            f"""
            import errno, os, time
            children = []
            try:
                for _ in range(1000):
                    child = os.fork()
                    if child == 0:
                        time.sleep(30); os._exit(0)
                    children.append(child)
            except OSError as error:
                print(errno.errorcode[error.errno], {bounds})
            for child in children:
                os.kill(child, 9)
            """,
            stdout="EAGAIN True\n",
            limits={"processes": 20},
            levels=levels,
        )
        for what, bounds, levels in (
            ("more", "2 < len(children) < 20", ("full",)),
            (
                "many_more",
                "len(children) < 500",
                ("namespaces", "confined"),
            ),  # sandboxes may share one id, and its limit
        )
    ),
    _python(
        "cannot_write_a_file_larger_than_allowed",
        """
        import errno
        try:
            with open("large", "wb", buffering=0) as file:
                for _ in range(64):
                    file.write(bytes(65536))
        except OSError as error:
            print(errno.errorcode[error.errno])
        import os
        print(os.path.getsize("large") == 2**20)
        os.remove("large")
        """,
        stdout="EFBIG\nTrue\n",
        limits={"file_bytes": 2**20},
    ),
    _python(
        "is_bound_in_what_is_memory_by_the_limit_on_memory_alone",
        """
        import mmap, os
        size = 100 << 20
        file = os.memfd_create("large")
        os.truncate(file, size)
        with mmap.mmap(file, size) as view:
            view[-1] = 1
        os.pwrite(file, b"end", size - 3)
        print(os.fstat(file).st_size == size)
        """,
        stdout="True\n",
    ),
    _python(
        "shares_more_memory_than_the_workspace_holds",
        """
        from multiprocessing.shared_memory import SharedMemory
        shared = SharedMemory(create=True, size=100 << 20)
        for place in range(0, shared.size, 1 << 20):
            shared.buf[place] = 1
        print(sum(shared.buf[:: 1 << 20]))
        shared.close(), shared.unlink()
        """,
        stdout="100\n",
        levels=_SHARED_MEMORY,
    ),
    Case(
        "finds_its_workspace_where_models_look_for_it",
        {
            "python": """
                import os
                print(open("/mnt/data/in.csv").read(), os.getcwd() == os.path.realpath("/mnt/data"))
                for folder in ("/mnt/data", "/home/user"):
                    os.makedirs(folder, exist_ok=True)
                os.chdir("/mnt/data")
                open("/mnt/data/sub.csv", "w").write("1")
                open("/home/user/note.txt", "w").write("2")
                print(sorted(os.listdir("/mnt/data")) == sorted(os.listdir("/workspace")), os.getcwd())
                """,
            "bash": """
                mkdir -p /mnt/data /home/user
                echo "$(cat /mnt/data/in.csv) True"
                printf 1 > /mnt/data/sub.csv; printf 2 > /home/user/note.txt
                cd /mnt/data; echo True $(pwd -P)
                """,
        },
        stdout="a,b True\nTrue /workspace\n",
        files={"in.csv": b"a,b"},
        left={"sub.csv": b"1", "note.txt": b"2"},
        levels=("full", "namespaces"),
    ),
    _python(
        "is_told_of_files_that_it_left_outside_of_the_workspace",
        """
        import os, tempfile
        home = os.path.expanduser("~")
        os.makedirs(f"{home}/.cache/somebody")
        for path in ("in-home.csv", ".cache/somebody/cache.db"):
            open(f"{home}/{path}", "w").write("x")
        os.mkdir(f"{tempfile.gettempdir()}/run")
        open(f"{tempfile.gettempdir()}/run/result.txt", "w").write("y")
        with tempfile.NamedTemporaryFile() as gone:
            gone.write(b"z")
        open("here.txt", "w").write("x")
        """,
        left={"here.txt": b"x"},
        skipped=("/tmp/in-home.csv", "/tmp/run/result.txt"),
    ),
    _python(
        "writes_a_file_of_most_of_the_workspace",
        """
        with open("table.csv", "w") as file:
            for _ in range(40):
                file.write("1,2,3\\n" * (10**6 // 6))
        """,
        left=None,  # its content is compared in tests/escape/test_artifacts.py: a difference of 40 MB helps nobody
    ),
    _python("speaks_every_script", "print('grüße, 日本, 😀', len('😀'))", stdout="grüße, 日本, 😀 1\n"),
    _python(
        "prints_bytes_that_are_no_text", "import sys; sys.stdout.buffer.write(b'a\\xff\\xfeb')", stdout="a\ufffd\ufffdb"
    ),
    _python("prints_nul_and_control_characters", "print('a\\x00b\\x1b[31mc')", stdout="a\x00b\x1b[31mc\n"),
    _python("cannot_print_half_a_character", "print('\\ud800')", Status.FAILED, 1, stderr="UnicodeEncodeError"),
    _python(
        "keeps_the_two_streams_apart",
        "import sys; print('out'); print('err', file=sys.stderr)",
        stdout="out\n",
        stderr="err\n",
    ),
    _python("closes_its_own_output", "import os; os.write(1, b'before'); os.close(1); os.close(2)", stdout="before"),
    _python(
        "opens_its_output_by_name",
        "for name in ('/dev/stdout', '/proc/self/fd/1'):\n    with open(name, 'w') as file: file.write('x')\n",
        stdout="xx",
        levels=("full",),
    ),
    _python("runs_a_program_of_a_megabyte", "x = '" + "y" * 900_000 + "'\nprint(len(x))", stdout="900000\n"),
    _python(
        "reads_its_own_source", "# grüße\nprint(open(__file__, encoding='utf-8').readline())", stdout="# grüße\n\n"
    ),
    _python(
        "keeps_future_imports_and_annotations_to_itself",
        "print(eval('__debug__'), type(1 and (lambda: 1)).__name__)",
        stdout="True function\n",
    ),
    _python(
        "collects_and_pickles_what_it_defines",
        """
        import dataclasses, gc, inspect, pickle
        @dataclasses.dataclass
        class Point:
            x: int
        print(pickle.loads(pickle.dumps(Point(3))), inspect.getsource(Point).splitlines()[1])
        print(gc.isenabled())
        """,
        stdout="Point(x=3) class Point:\nTrue\n",
    ),
]
