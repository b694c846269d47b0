"""What waits in the sockets of this network namespace: memory that no cgroup of version 1 counts."""

import contextlib


def queued_bytes() -> int:
    """What waits in the sockets of this network namespace to be sent or read."""
    total = 0
    for name in ("tcp", "tcp6", "udp", "udp6"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/net/{name}", encoding="ascii") as file:
            next(file)
            for line in file:
                sent, _, received = line.split()[4].partition(":")
                total += int(sent, 16) + int(received, 16)
    return total + waiting_routes()


def waiting_routes() -> int:
    """What waits in the sockets of the routing table of this network namespace."""
    with contextlib.suppress(FileNotFoundError), open("/proc/net/netlink", encoding="ascii") as file:
        next(file)
        return sum(sum(map(int, line.split()[4:6])) for line in file)
    return 0
