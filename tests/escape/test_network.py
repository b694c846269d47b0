"""No network: neither the host's loopback, nor the world, nor another sandbox."""
# ruff: noqa: E501 - the long lines are programs of guests

import socket

import pytest

from codex_server.sandboxes.base import IsolationLevel

IN_A_ROOM = ("full", "namespaces")


def test_guest_cannot_reach_a_server_on_the_hosts_loopback(harness, host):
    seen = harness.python(f"""
        import socket
        def connect(family, address):
            with socket.socket(family) as caller:
                caller.settimeout(2)
                caller.connect(address)
        tell([attempt(connect, socket.AF_INET, ("127.0.0.1", {host.port})), attempt(connect, socket.AF_INET6, ("::1", {host.port})),
              attempt(connect, socket.AF_INET, ("0.0.0.0", {host.port})), attempt(connect, socket.AF_INET6, ("::ffff:127.0.0.1", {host.port}))])
    """).told
    assert seen == ["EAFNOSUPPORT" if harness.level is IsolationLevel.CONFINED else "ECONNREFUSED"] * 4
    assert host.knocks == []


def test_guest_cannot_send_a_datagram_to_the_host(harness, host):
    harness.python(f"""
        import socket
        def send():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
                caller.sendto(b"knock", ("127.0.0.1", {host.udp.getsockname()[1]}))
        attempt(send)
    """)
    with pytest.raises(BlockingIOError):
        host.udp.recv(100)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "169.254.169.254", "10.0.0.1", "172.17.0.1", "192.168.0.1", "255.255.255.255"]
)
def test_guest_cannot_reach_the_world_nor_the_metadata_service(harness, address):
    seen = harness.python(f"""
        import socket
        def connect(kind, port):
            with socket.socket(socket.AF_INET, kind) as caller:
                caller.settimeout(2)
                caller.connect(("{address}", port))
                if kind is socket.SOCK_DGRAM: caller.send(b"x")
        tell([attempt(connect, socket.SOCK_STREAM, 80), attempt(connect, socket.SOCK_DGRAM, 53)])
    """).told
    assert seen == ["EAFNOSUPPORT" if harness.level is IsolationLevel.CONFINED else "ENETUNREACH"] * 2


def test_guest_cannot_resolve_names(harness):
    seen = harness.python("""
        import socket
        try: tell(socket.getaddrinfo("example.com", 80))
        except OSError as error: tell(type(error).__name__)
    """).told
    assert seen == "gaierror"


def test_guest_gets_no_socket_that_a_network_namespace_does_not_hold(harness):
    seen = harness.python("""
        import socket
        wanted = {"netfilter": (16, 3, 12), "ipsec": (16, 3, 6), "audit": (16, 3, 9), "generic": (16, 3, 16), "diagnosis": (16, 3, 4), "packet": (17, 3, 0), "raw": (2, 3, 255), "raw icmp": (2, 3, 1), "raw 6": (10, 3, 58), "ping": (2, 2, 1),
                  "vsock": (40, 1, 0), "vsock datagram": (40, 2, 0), "alg": (38, 5, 0), "bluetooth": (31, 3, 1), "can": (29, 3, 1), "tipc": (30, 5, 0),
                  "rds": (21, 5, 0), "key": (15, 3, 2), "sctp": (2, 1, 132), "dccp": (2, 6, 33), "xdp": (44, 3, 0), "unspecified": (0, 1, 0)}
        tell({name: attempt(lambda: socket.socket(*arguments).close()) for name, arguments in wanted.items()})
    """).told
    if harness.level is IsolationLevel.CONFINED:
        assert set(seen.values()) == {"EAFNOSUPPORT"}
    else:
        kinds = dict.fromkeys(("raw", "raw icmp", "raw 6", "dccp"), "EPERM")
        protocols = dict.fromkeys(
            ("netfilter", "ipsec", "audit", "generic", "diagnosis", "ping", "sctp"), "EPROTONOSUPPORT"
        )
        assert {name: answer for name, answer in seen.items() if answer != "EAFNOSUPPORT"} == kinds | protocols


@pytest.mark.levels(*IN_A_ROOM)
def test_guest_has_only_a_loopback_of_its_own(harness):
    seen = harness.python("""
        import socket, threading
        names = [line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]]
        routes = open("/proc/net/route").read().splitlines()[1:]
        listener = socket.create_server(("127.0.0.1", 0))
        caller = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        accepted.send(b"mine"); answer = caller.recv(4).decode()
        for end in (listener, caller, accepted): end.close()
        tell([names, routes, answer, len(open("/proc/net/unix").readlines())])
    """).told
    of_init = 2 if harness.in_container else 0  # the two ends of a channel in the container's PID 1
    assert seen == [["lo"], [], "mine", 1 + of_init]


def test_guest_is_told_of_a_loopback_alone_and_of_nothing_of_the_hosts(harness):
    """By whatever lists interfaces. At ``confined``, where there is no socket to ask over, by the runners."""
    assert harness.python("import socket; tell(socket.if_nameindex())").told == [[1, "lo"]]
    listed = harness.run("javascript", "console.log(JSON.stringify(require('os').networkInterfaces()))")
    assert '{"lo":[{"address":"127.0.0.1",' in listed.stdout
    assert listed.stdout.count('"mac"') == listed.stdout.count('"mac":"00:00:00:00:00:00"') > 0


@pytest.mark.levels(*IN_A_ROOM)
def test_guest_changes_nothing_of_its_network_by_the_socket_that_lists_it(harness):
    seen = harness.python("""
        import socket, struct
        link = struct.pack("=BxHiII", 0, 0, 1, 0, 1)
        wishes = {"new link": (16, struct.pack("=BxHiII", 0, 0, 0, 0, 0) + struct.pack("=HH8s", 12, 3, b"dummy0")), "link down": (19, link), "no link": (17, link),
                  "address": (20, struct.pack("=BBBBI4x", 2, 8, 0, 0, 1)), "route": (24, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 4, 0, 1, 0)),
                  "neighbour": (28, struct.pack("=BxxxiHBB", 2, 1, 0, 0, 0)), "queue": (36, struct.pack("=BxxxiIII", 0, 1, 0, 0, 0)), "namespace": (88, bytes(4))}
        def wish(kind, body):
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as asking:
                asking.send(struct.pack("=IHHII", 16 + len(body), kind, 0x605, 1, 0) + body)  # REQUEST, ACK, CREATE, EXCLUSIVE
                answer = asking.recv(65536)
                return -struct.unpack_from("=i", answer, 16)[0]
        tell({name: errno.errorcode[wish(*asked)] for name, asked in wishes.items()})
    """).told
    assert set(seen.values()) <= {"EPERM", "EOPNOTSUPP"}, seen  # the latter: gVisor, which knows none of it


def test_guest_cannot_reach_the_hosts_unix_sockets(harness, host):
    seen = harness.python(f"""
        import socket
        def connect(address):
            with socket.socket(socket.AF_UNIX) as caller: caller.connect(address)
        tell([attempt(connect, address) for address in ({host.abstract!r}, {str(host.folder / "docker.sock")!r}, "/run/docker.sock", "/var/run/docker.sock", "/run/dbus/system_bus_socket")])
    """).told
    assert "done" not in seen
    assert host.knocks == []


@pytest.mark.levels(*IN_A_ROOM)
def test_two_guests_share_no_port_and_no_abstract_socket(harness):
    program = """
        import socket, time
        mine = [socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET)]
        mine[0].bind("\\0shared"); mine[1].bind(("127.0.0.1", 4711))
        for listener in mine: listener.listen(); listener.setblocking(False)
        callers = []
        for family, address in ((socket.AF_UNIX, "\\0shared"), (socket.AF_INET, ("127.0.0.1", 4711))):
            callers.append(socket.socket(family)); callers[-1].connect(address)
        time.sleep(0.3)
        heard = 0
        for listener in mine:
            try:
                while True: listener.accept()[0].close(); heard += 1
            except BlockingIOError: pass
        for end in (*mine, *callers): end.close()
        tell(heard)
    """
    assert [seen.told for seen in harness.together(program, program)] == [2, 2]


def test_two_guests_do_not_see_one_anothers_files(harness):
    program = """
        import time, tempfile
        folders = (os.getcwd(), tempfile.gettempdir(), "/dev/shm", "/tmp", "/var/tmp", "/run/lock")
        for folder in folders: attempt(lambda: open(folder + f"/of-{sys.argv[1] if len(sys.argv) > 1 else id(folders)}", "x").close())
        time.sleep(0.3)
        seen = {}
        for folder in folders:
            try: seen[folder] = [name for name in os.listdir(folder) if name.startswith("of-")]
            except OSError: seen[folder] = []
        tell(max(map(len, seen.values())))
    """
    assert [seen.told for seen in harness.together(program, program)] == [1, 1]


@pytest.mark.tier("change")
def test_two_guests_cannot_see_or_signal_one_another(harness):
    program = """
        import signal, time
        time.sleep(0.2)
        answers = set()
        for pid in range(2, 70_000):
            if pid in (os.getpid(), os.getppid()) or os.path.exists(f"/proc/1/task/{pid}"): continue
            try: os.kill(pid, signal.SIGTERM)
            except ProcessLookupError: continue
            except PermissionError: answers.add("refused")
            else: answers.add(f"killed {pid}")
        time.sleep(0.2)
        tell(sorted(answers))
    """
    for seen in harness.together(program, program):
        assert seen.told in ([], ["refused"])


@pytest.mark.levels(*IN_A_ROOM)
def test_two_guests_share_no_ipc(harness):
    program = """
        import time
        made = libc.shmget(0x4711, 4096, 0o3666)
        time.sleep(0.3)
        tell([made >= 0, len(open("/proc/sysvipc/shm").readlines()) - 1])
    """
    assert [seen.told for seen in harness.together(program, program)] == [[True, 1]] * 2


def test_the_hostname_is_not_the_hosts_where_there_are_namespaces(harness):
    name = harness.python("import socket; tell(socket.gethostname())").told
    assert name == (socket.gethostname() if harness.level is IsolationLevel.CONFINED else "sandbox")
