"""A zygote in small, run as a program by the tests: `python -I -S warm_python.py AGENT DESCRIPTOR [PRELOAD]...`.

For each request on the socket it forks a worker that warms up and becomes the program, and answers with the exit code.
A request without a file is for a session's interpreter, whose channel comes too: its pid is answered before.
"""

import importlib.util
import json
import os
import socket
import sys


def load_agent(path):
    spec = importlib.util.spec_from_file_location("agent", path)
    module = sys.modules["agent"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def become(agent, request, descriptors):
    for target, descriptor in enumerate([os.dup(descriptor) for descriptor in descriptors]):
        os.dup2(descriptor, target)
    os.closerange(len(descriptors), 256)
    os.chdir(request["cwd"])
    agent.warm_up()
    if "file" not in request:
        os.setsid()
        agent.serve(3, request["env"])
    agent.run(request["file"], request["args"], request["env"])


def main():
    agent = load_agent(sys.argv[1])
    agent.warm(sys.argv[3:])
    del sys.argv[3:]
    with socket.socket(fileno=int(sys.argv[2])) as channel:
        while True:
            text, descriptors, _, _ = socket.recv_fds(channel, 65536, 4)
            if not text:
                return
            worker = os.fork()
            if worker == 0:
                become(agent, json.loads(text), descriptors)
            if "file" not in json.loads(text):
                channel.sendall(b"%d" % worker)
            for descriptor in descriptors:
                os.close(descriptor)
            _, status = os.waitpid(worker, 0)
            channel.sendall(json.dumps(os.waitstatus_to_exitcode(status)).encode())


main()
