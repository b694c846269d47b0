# ruff: noqa: E501 - programs read better on one line
"""What people write, and the corners of how Python starts and ends: each must come out as under plain ``python3``."""

from tests.runners.comparison import Program

PROGRAMS: dict[str, Program] = {
    "prints": Program("print('hello', 'world', sep=', ', end='!\\n')"),
    "empty": Program(""),
    "unicode": Program("print('h\u00e9llo \u4e16\u754c \U0001f600'); print('\\udc80'.encode('utf-8', 'surrogateescape'))"),
    "lone surrogate": Program("print('\\udcff'); print('\\ud800')"),
    "encoding cookie": Program("# -*- coding: latin-1 -*-\nprint(ascii('\u00e9'))"),
    "main namespace": Program("print({k: v for k, v in globals().items() if k != '__builtins__'}, __builtins__)"),
    "main guard": Program("def main(): return 3\nif __name__ == '__main__': raise SystemExit(main())"),
    "annotations": Program("x: int = 3\nprint(__annotations__)"),
    "arguments": Program("import sys; print(sys.argv, sys.orig_argv[1:])", args=["a b", "--c", "\u00e9"]),
    "path": Program("import sys; print(sys.path, sys.meta_path[-3:], sys.warnoptions)"),
    "module beside": Program(
        "import helper, sub.deep; print(helper.__file__, helper.__name__, sub.deep.VALUE)",
        files={"helper.py": "x = 1", "sub/deep.py": "VALUE = 7"},
    ),
    "module that fails": Program("import helper", files={"helper.py": "def f():\n    return 1 / 0\nf()\n"}),
    "shadows the library": Program("import string; print(string.MINE)", files={"string.py": "MINE = 1"}),
    "no module": Program("import does_not_exist"),
    "streams": Program(
        "import sys\nfor s in (sys.stdin, sys.stdout, sys.stderr, sys.__stdout__):\n"
        "    print(s, s.encoding, s.errors, s.mode, s.name, s.write_through, s.fileno(), s.buffer.raw.name, s.isatty())"
    ),
    "reads lines": Program("for line in open(0): print(repr(line))", stdin="one\ntwo\r\nthree"),
    "input": Program("a = int(input()); b = input('name? '); print(a + 1, b)", stdin="41\nbob\n"),
    "input at the end": Program("input()"),
    "reads bytes": Program("import sys; print(sys.stdin.buffer.read())", stdin="x\r\n\u00e9"),
    "environment": Program(
        "import os, subprocess\nprint(sorted(os.environ.items()), os.environb[b'A'])\n"
        "print(subprocess.check_output(['env'], text=True).splitlines() == [f'{k}={v}' for k, v in os.environ.items()])",
        env={"A": "1", "B": "\u00e9 =", "EMPTY": ""},
    ),
    "bare locale": Program("import os, sys; print(dict(os.environ), sys.stdout.errors)", env={"LANG": ""}),
    "time zone": Program("import time; print(time.tzname, time.localtime(0).tm_hour)", env={"TZ": "JST-9"}),
    "python path": Program("import sys; print(sys.path[:3]); import far", env={"PYTHONPATH": "lib"}, files={"lib/far.py": ""}),
    "other encoding": Program("import sys; print(sys.stdout.encoding)", env={"PYTHONIOENCODING": "latin-1"}),
    "other locale": Program("import locale; print(locale.getlocale())", env={"LC_ALL": "xx_YY.UTF-8"}),
    "hash seed": Program("print(hash('abc'), hash(b'x'))", env={"PYTHONHASHSEED": "7"}),
    "warnings on": Program("import warnings; warnings.warn('old', DeprecationWarning)", env={"PYTHONWARNINGS": "error"}),
    "signals": Program(
        "import signal\nprint({s: signal.getsignal(s) for s in signal.valid_signals() if signal.getsignal(s)})\n"
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.set_wakeup_fd(-1))"
    ),
    "descriptors": Program("import os; print(sorted(os.listdir('/proc/self/fd')))"),
    "exit none": Program("import sys; sys.exit()"),
    "exit number": Program("import sys; sys.exit(7)"),
    "exit negative": Program("import sys; sys.exit(-1)"),
    "exit above a byte": Program("import sys; sys.exit(300)"),
    "exit over 32 bits": Program("import sys; sys.exit(2 ** 32 + 3)"),
    "exit true": Program("import sys; sys.exit(True)"),
    "exit text": Program("import sys; sys.exit('it went wrong')"),
    "exit object": Program("raise SystemExit([1, None])"),
    "exit builtin": Program("exit(4)"),
    "quit and help": Program("print(exit, quit, copyright.__class__)"),
    "exit subclass": Program("class Bye(SystemExit): pass\nraise Bye(9)"),
    "exit at once": Program("import os; print('kept', flush=True); os._exit(5)"),
    "exit in a thread": Program(
        "import sys, threading\nt = threading.Thread(target=lambda: sys.exit(3)); t.start(); t.join(); print('on')"
    ),
    "abort": Program("import os; os.abort()"),
    "killed": Program("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
    "terminated": Program("import os, signal; os.kill(os.getpid(), signal.SIGTERM)"),
    "interrupt": Program("import os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(5)"),
    "keyboard interrupt": Program("import atexit; atexit.register(print, 'bye')\nraise KeyboardInterrupt"),
    "interrupt subclass": Program("class Stop(KeyboardInterrupt): pass\nraise Stop"),
    "uncaught": Program("def f(x):\n    return 1 / x\n\nprint('before')\nf(0)\n"),
    "uncaught in a lambda": Program("print(sorted([3, 'a'], key=lambda v: v + 1))"),
    "chained": Program("try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('bad') from e"),
    "chained silently": Program("try:\n    {}['a']\nexcept KeyError:\n    1 / 0"),
    "group": Program("raise ExceptionGroup('two', [ValueError(1), TypeError('x')])"),
    "notes": Program("e = ValueError('x'); e.add_note('look here'); raise e"),
    "bad repr": Program("class E(Exception):\n    def __str__(self): raise RuntimeError\nraise E"),
    "assertion": Program("assert 1 + 1 == 3, 'no'"),
    "name suggestion": Program("total = 1\nprint(totl)"),
    "syntax error": Program("x = 1\ny = = 2\n"),
    "indentation error": Program("def f():\nreturn 1\n"),
    "unclosed bracket": Program("print((1, 2\n"),
    "syntax error later": Program("print('never')\nreturn 3\n"),
    "syntax warning": Program("print(1 is 1)"),
    "recursion": Program("def f(n):\n    return f(n + 1)\ntry: f(0)\nexcept RecursionError as e: print(e)"),
    "own hook": Program(
        "import sys\ndef hook(kind, value, trace): print('hook', kind, value, trace.tb_lineno, trace.tb_next)\n"
        "sys.excepthook = hook\n1 / 0\n"
    ),
    "hook that fails": Program("import sys\ndef hook(*a): raise RuntimeError('worse')\nsys.excepthook = hook\n1 / 0\n"),
    "hook that exits": Program("import sys\nsys.excepthook = lambda *a: sys.exit(6)\n1 / 0\n"),
    "last error": Program(
        "import atexit, sys\natexit.register(lambda: print(sys.last_type, sys.last_value, sys.last_traceback.tb_lineno))\n1/0"
    ),
    "no frame below": Program(
        "import sys, traceback, inspect\ntraceback.print_stack(); print(sys._getframe().f_back, len(inspect.stack()))\n"
        "def f(): return inspect.stack()[-1].function\nprint(f())\n"
        "try: sys._getframe(1)\nexcept ValueError as e: print(e)\nimport warnings; warnings.warn('here', stacklevel=2)\n"
    ),
    "modules of ours": Program("import sys; print([m for m in sys.modules if 'agent' in m or 'warm' in m])"),
    "atexit": Program(
        "import atexit\natexit.register(print, 'first')\n@atexit.register\ndef last(): print('last'); 1 / 0\nprint('end')"
    ),
    "atexit exits": Program("import atexit, sys; atexit.register(sys.exit, 4); print('x')"),
    "finalizers": Program(
        "import weakref\nclass A:\n    def __del__(self): print('gone', self.n, __name__)\n"
        "a = A(); a.n = 1\nb = A(); b.n = 2; b.me = b\nw = weakref.finalize(a, print, 'finalized')\nprint('end')"
    ),
    "generator closes": Program("def g():\n    try: yield 1\n    finally: print('closed')\nx = g(); next(x); print('end')"),
    "never awaited": Program("async def f(): pass\nf()\nx = f()\n"),
    "open file is written": Program(
        "import subprocess, sys, atexit\nf = open('out.txt', 'w'); f.write('text')\ndef g(): return f\n"
        "import os\nif os.fork() == 0: sys.exit()\nos.wait()\n"
    ),
    "context at the end": Program("import contextlib\n@contextlib.contextmanager\ndef c():\n    yield\n    print('out')\nwith c(): print('in')"),
    "threads": Program(
        "import threading, time\ndef work(n): time.sleep(0.1 * n); print('t', n)\n"
        "print(threading.current_thread(), threading.main_thread() is threading.current_thread())\n"
        "for n in range(1, 3): threading.Thread(target=work, args=(n,)).start()"
    ),
    "thread fails": Program("import threading\nt = threading.Thread(target=lambda: 1 / 0); t.start(); t.join(); print('on')"),
    "daemon thread": Program("import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start(); print('end')"),
    "raw thread": Program("import _thread, time\n_thread.start_new_thread(print, ('raw',)); time.sleep(0.1)"),
    "thread pool": Program("from concurrent.futures import ThreadPoolExecutor as P\nwith P(3) as p: print(list(p.map(abs, [-1, -2])))"),
    "pool left open": Program("from concurrent.futures import ThreadPoolExecutor\np = ThreadPoolExecutor(); print(p.submit(pow, 2, 5).result())"),
    "fork": Program("import os, sys\nif os.fork() == 0:\n    print('child'); sys.exit(3)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))"),
    "fork fails": Program("import os\nif os.fork() == 0:\n    1 / 0\nprint(os.waitstatus_to_exitcode(os.wait()[1]))"),
    "subprocess": Program(
        "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'import sys; print(6*7); sys.exit(2)'], capture_output=True))"
    ),
    "shell": Program("import os; print('first', flush=True); print(os.system('echo second; exit 3'))"),
    "asyncio": Program(
        "import asyncio\nasync def one(n):\n    await asyncio.sleep(0)\n    return n * 2\n"
        "async def main(): print(await asyncio.gather(*map(one, range(3))))\nasyncio.run(main())"
    ),
    "asyncio fails": Program("import asyncio\nasync def main(): 1 / 0\nasyncio.run(main())"),
    "asyncio child": Program(
        "import asyncio\nasync def main():\n    p = await asyncio.create_subprocess_exec('echo', 'hi', stdout=-1)\n"
        "    print(await p.communicate(), p.returncode)\nasyncio.run(main())"
    ),
    "logging": Program("import logging; logging.warning('careful'); logging.getLogger('x').error('bad', exc_info=False)"),
    "warning": Program("import warnings\ndef f(): warnings.warn('old thing', stacklevel=2)\nf()\nf()\n"),
    "pickle": Program(
        "import pickle\nclass P:\n    def __eq__(self, o): return type(o) is P\n"
        "d = pickle.dumps(P()); print(b'__main__' in d, pickle.loads(d) == P())"
    ),
    "get source": Program("import inspect\ndef f():\n    return 1\nprint(inspect.getsource(f), inspect.getfile(f), inspect.getmodule(f))"),
    "dataclass": Program("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 1\nprint(P(), P.__module__)"),
    "enum and typing": Program("import enum, typing\nclass C(enum.Enum): A = 1\nprint(C.A, typing.get_type_hints(lambda: 0), C.__module__)"),
    "named tuple": Program("from collections import namedtuple\nP = namedtuple('P', 'x'); print(P(1), P.__module__)"),
    "main reimported": Program("import sys, __main__; print(__main__ is sys.modules['__main__'], __main__.__file__ == __file__)"),
    "runpy": Program("import runpy; print(sorted(runpy.run_path('other.py'))[-1])", files={"other.py": "zzz = 1"}),
    "exec and eval": Program("exec('y = 2'); print(eval('y + 1'), compile('1', '<s>', 'eval').co_filename)"),
    "future import": Program("from __future__ import annotations\ndef f(x: Undefined): pass\nprint(f.__annotations__)"),
    "no inherited future": Program("def f(x: int): pass\nprint(f.__annotations__)"),
    "gc": Program("import gc; print(gc.isenabled(), gc.get_threshold(), gc.get_debug(), len(gc.callbacks), gc.garbage)"),
    "no tracing": Program("import sys, threading; print(sys.gettrace(), sys.getprofile(), threading.active_count())"),
    "limits": Program("import sys; print(sys.getrecursionlimit(), sys.getswitchinterval(), sys.dont_write_bytecode, sys.maxsize)"),
    "large output": Program("for i in range(50_000): print('line', i)\nimport sys; sys.stdout.write('x' * 3_000_000)"),
    "binary output": Program("import sys; sys.stdout.buffer.write(b'raw\\n'); sys.stdout.flush(); print('text')"),
    "no newline": Program("import sys; sys.stdout.write('unfinished'); sys.stderr.write('too')"),
    "closes stdout": Program("import sys; print('x'); sys.stdout.close()"),
    "stdout gone": Program("import sys; print('x'); sys.stdout = None"),
    "stderr gone": Program("import sys; sys.stderr = None\n1 / 0"),
    "stdout replaced": Program("import sys, io; sys.stdout = io.StringIO(); print('hidden')"),
    "closed descriptor": Program("import os; print('x', flush=True); os.close(1); os.close(2); raise SystemExit(3)"),
    "lost output": Program("import os; os.close(1); import sys; sys.stdout.write('x')"),
    "temp files": Program("import tempfile, os\nwith tempfile.TemporaryDirectory() as d: print(os.path.isdir(d))\nt = tempfile.NamedTemporaryFile()"),
    "sqlite": Program("import sqlite3; c = sqlite3.connect(':memory:'); print(c.execute('select 1 + 1').fetchone())"),
    "locale": Program("import locale; print(locale.getpreferredencoding(), locale.setlocale(locale.LC_CTYPE))"),
    "c stdio": Program("import ctypes; ctypes.CDLL(None).printf(b'from C\\n')"),
    "date parsing": Program("from datetime import datetime; print(datetime.strptime('2024-02-29', '%Y-%m-%d'))"),
    "breakpoint": Program("x = 1\nbreakpoint()\nprint(x)", stdin="p x + 1\nc\n"),
    "unraisable": Program("class A:\n    def __del__(self): 1 / 0\nA()\nprint('on')"),
    "bytes source": Program("print(len(__file__) > 0, open(__file__).read()[:5])"),
    "star arguments": Program("import argparse; p = argparse.ArgumentParser(); p.add_argument('n', type=int); print(p.parse_args())", args=["x"]),
    "server": Program(
        "import http.server, threading, urllib.request\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(b'ok')\n"
        "    def log_message(self, *a): pass\n"
        "s = http.server.HTTPServer(('127.0.0.1', 0), H)\nthreading.Thread(target=s.serve_forever, daemon=True).start()\n"
        "print(urllib.request.urlopen(f'http://127.0.0.1:{s.server_port}/').read())"
    ),
    "multiprocessing fork": Program(
        "import multiprocessing as m\ndef f(x): return x * x\n"
        "if __name__ == '__main__':\n    with m.get_context('fork').Pool(2) as p: print(p.map(f, [1, 2, 3]))"
    ),
    "multiprocessing spawn": Program(
        "import multiprocessing as m\ndef f(x): return x * x\n"
        "if __name__ == '__main__':\n    with m.get_context('spawn').Pool(1) as p: print(p.map(f, [1, 2, 3]))"
    ),
    "multiprocessing forkserver": Program(
        "import multiprocessing as m\ndef f(q): q.put(__name__)\n"
        "if __name__ == '__main__':\n    c = m.get_context('forkserver'); q = c.Queue()\n"
        "    p = c.Process(target=f, args=(q,)); p.start(); print(q.get()); p.join(); print(p.exitcode)"
    ),
    "process pool": Program(
        "from concurrent.futures import ProcessPoolExecutor as P\ndef f(x): return -x\n"
        "if __name__ == '__main__':\n    with P(1) as p: print(list(p.map(f, [1, 2])))"
    ),
}  # fmt: skip
