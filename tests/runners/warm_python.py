"""A zygote in small, run as a program by the tests: `python -I -S warm_python.py AGENT DESCRIPTOR [PRELOAD]...`.

For each request on the socket it forks a worker that warms up and becomes the program, and answers with the exit code.
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
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
    os.closerange(3, 256)
    os.chdir(request["cwd"])
    agent.warm_up()
    agent.run(request["file"], request["args"], request["env"])


def main():
    agent = load_agent(sys.argv[1])
    agent.warm(sys.argv[3:])
    del sys.argv[3:]
    with socket.socket(fileno=int(sys.argv[2])) as channel:
        while True:
            text, descriptors, _, _ = socket.recv_fds(channel, 65536, 3)
            if not text:
                return
            worker = os.fork()
            if worker == 0:
                become(agent, json.loads(text), descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            _, status = os.waitpid(worker, 0)
            channel.sendall(json.dumps(os.waitstatus_to_exitcode(status)).encode())


main()
