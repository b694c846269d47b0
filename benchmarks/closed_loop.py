"""A closed-loop load generator in one thread: each client sends its next request when it has the response.

A client that gets 503 with ``Retry-After`` waits that long.
"""

import contextlib
import heapq
import select
import time
from dataclasses import dataclass, field

from benchmarks.samples import Samples
from benchmarks.wire import RESPONSE_SECONDS, Address, BadResponse, Response, ResponseReader

_CHUNK = 2**18


@dataclass(slots=True)
class Tally:
    """The responses to all clients. ``seconds`` is the window; later responses count for latency, not for the rate."""

    clients: int
    seconds: float
    latencies: list[float] = field(default_factory=list)
    in_time: int = 0
    busy: int = 0
    """Responses with status 503."""
    errors: int = 0
    """Unexpected responses, and lost connections."""
    first_error: str = ""
    client_cpu_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Expected responses per second."""
        return self.in_time / self.seconds

    @property
    def samples(self) -> Samples:
        """The latencies of the expected responses. Raises ``BadResponse`` with the first error when there is none."""
        if not self.latencies:
            raise BadResponse(
                f"no request of {self.clients} clients got its response: {self.first_error or 'only 503'}"
            )
        return Samples.of(self.latencies)

    def note(self, response: Response | None, wanted: bytes, took: float, *, in_time: bool) -> None:
        """Count one response; None for a lost connection."""
        if response is not None and response.status == 200 and wanted in response.body:
            self.latencies.append(took)
            self.in_time += in_time
        elif response is not None and response.status == 503:
            self.busy += 1
        else:
            self.errors += 1
            self.first_error = self.first_error or repr(response)[:500]


class _Client:
    """One client."""

    def __init__(self, address: Address, request: bytes) -> None:
        self._address, self._request = address, request
        self.connect()

    def connect(self) -> None:
        """Open a connection, also to replace a lost one."""
        self.socket = self._address.connect()
        self.socket.setblocking(False)
        self._reader = ResponseReader()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def send(self) -> None:
        """Send the next request; it is small enough for any socket buffer."""
        self.sent_at = time.perf_counter()
        self.socket.send(self._request)

    def receive(self) -> tuple[bool, Response | None]:
        """Return whether the exchange is over, and the response; None when the connection was lost."""
        try:
            data = self.socket.recv(_CHUNK)
        except BlockingIOError:
            return False, None
        except OSError:
            return True, None
        if not data:
            return True, None
        response = self._reader.feed(data)
        return response is not None, response


def run_clients(address: Address, request: bytes, wanted: bytes, *, clients: int, seconds: float) -> Tally:
    """Let ``clients`` send ``request`` repeatedly for ``seconds``, then wait for their last responses."""
    tally = Tally(clients, seconds)
    before = time.process_time()
    with contextlib.ExitStack() as stack:
        members = [_Client(address, request) for _ in range(clients)]
        for member in members:
            stack.callback(member.close)
        _ClosedLoop(stack.enter_context(contextlib.closing(select.epoll())), wanted, tally).drive(members)
    tally.client_cpu_seconds = time.process_time() - before
    return tally


class _ClosedLoop:
    """The clients that wait for a response, and those that wait for ``Retry-After`` to pass."""

    def __init__(self, poll: select.epoll, wanted: bytes, tally: Tally) -> None:
        self._poll, self._wanted, self._tally = poll, wanted, tally
        self._waiting: dict[int, _Client] = {}
        self._resting: list[tuple[float, int, _Client]] = []
        self._deadline = time.perf_counter() + tally.seconds

    def drive(self, members: list[_Client]) -> None:
        """Let each client send until the window is over, and receive its last response."""
        for member in members:
            self._send(member)
        while self._waiting or self._resting:
            ready = self._poll.poll(self._longest_wait())
            if not ready and not self._resting:
                raise BadResponse(f"{len(self._waiting)} requests had no response within {RESPONSE_SECONDS:g} s")
            for descriptor, _ in ready:
                self._receive(descriptor)
            while self._resting and self._resting[0][0] <= time.perf_counter():
                self._send(heapq.heappop(self._resting)[2])

    def _longest_wait(self) -> float:
        return max(0.0, self._resting[0][0] - time.perf_counter()) if self._resting else RESPONSE_SECONDS

    def _send(self, member: _Client) -> None:
        self._waiting[member.socket.fileno()] = member
        self._poll.register(member.socket, select.EPOLLIN)
        member.send()

    def _receive(self, descriptor: int) -> None:
        member = self._waiting[descriptor]
        over, response = member.receive()
        if not over:
            return
        now = time.perf_counter()
        self._tally.note(response, self._wanted, now - member.sent_at, in_time=now <= self._deadline)
        rest = response.retry_after or 0 if response is not None and response.status == 503 else 0
        if response is not None and not rest and now < self._deadline:
            member.send()
            return
        self._poll.unregister(descriptor)
        del self._waiting[descriptor]
        if now + rest < self._deadline:
            member.close()
            member.connect()  # the old connection is lost, or will have been idle for too long
            heapq.heappush(self._resting, (now + rest, id(member), member))
