"""Many clients at once, each sending its next request when it has its answer: a closed loop in one thread.

A client that is told 503 with ``Retry-After`` rests for so long, as a polite one does.
"""

import contextlib
import heapq
import select
import time
from dataclasses import dataclass, field

from benchmarks.samples import Samples
from benchmarks.wire import ANSWER_SECONDS, Address, Answer, AnswerReader, BadAnswer

_CHUNK = 2**18


@dataclass(slots=True)
class Tally:
    """What a crowd met. ``seconds`` is the window; answers that came after it count for latency, not for the rate."""

    clients: int
    seconds: float
    latencies: list[float] = field(default_factory=list)
    in_time: int = 0
    busy: int = 0
    """Answers 503."""
    errors: int = 0
    """Any other answer than the wanted one, and lost connections."""
    first_error: str = ""
    client_cpu_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Wanted answers a second."""
        return self.in_time / self.seconds

    @property
    def samples(self) -> Samples:
        """The latencies of the wanted answers. Raises ``BadAnswer`` that tells the first error when there is none."""
        if not self.latencies:
            raise BadAnswer(f"no request of {self.clients} clients got its answer: {self.first_error or 'only 503'}")
        return Samples.of(self.latencies)

    def note(self, answer: Answer | None, wanted: bytes, took: float, *, in_time: bool) -> None:
        """Count one answer; None for a lost connection."""
        if answer is not None and answer.status == 200 and wanted in answer.body:
            self.latencies.append(took)
            self.in_time += in_time
        elif answer is not None and answer.status == 503:
            self.busy += 1
        else:
            self.errors += 1
            self.first_error = self.first_error or repr(answer)[:500]


class _Client:
    """One member of the crowd."""

    def __init__(self, address: Address, request: bytes) -> None:
        self._address, self._request = address, request
        self.connect()

    def connect(self) -> None:
        """A new connection, in place of a lost one too."""
        self.socket = self._address.connect()
        self.socket.setblocking(False)
        self._reader = AnswerReader()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def send(self) -> None:
        """Send the next request; it is small enough for any socket buffer."""
        self.sent_at = time.perf_counter()
        self.socket.send(self._request)

    def hear(self) -> tuple[bool, Answer | None]:
        """Whether the exchange is over, and the answer; None when the connection was lost."""
        try:
            data = self.socket.recv(_CHUNK)
        except BlockingIOError:
            return False, None
        except OSError:
            return True, None
        if not data:
            return True, None
        answer = self._reader.feed(data)
        return answer is not None, answer


def crowd(address: Address, request: bytes, wanted: bytes, *, clients: int, seconds: float) -> Tally:
    """``clients`` send ``request`` again and again for ``seconds``, then wait for their last answers."""
    tally = Tally(clients, seconds)
    before = time.process_time()
    with contextlib.ExitStack() as stack:
        members = [_Client(address, request) for _ in range(clients)]
        for member in members:
            stack.callback(member.close)
        _Crowd(stack.enter_context(contextlib.closing(select.epoll())), wanted, tally).drive(members)
    tally.client_cpu_seconds = time.process_time() - before
    return tally


class _Crowd:
    """Who waits for an answer, and who rests until the server wants to be asked again."""

    def __init__(self, poll: select.epoll, wanted: bytes, tally: Tally) -> None:
        self._poll, self._wanted, self._tally = poll, wanted, tally
        self._waiting: dict[int, _Client] = {}
        self._resting: list[tuple[float, int, _Client]] = []
        self._deadline = time.perf_counter() + tally.seconds

    def drive(self, members: list[_Client]) -> None:
        """Let each ask until the window is over, and hear its last answer."""
        for member in members:
            self._ask(member)
        while self._waiting or self._resting:
            ready = self._poll.poll(self._longest_wait())
            if not ready and not self._resting:
                raise BadAnswer(f"{len(self._waiting)} requests had no answer within {ANSWER_SECONDS:g} s")
            for descriptor, _ in ready:
                self._hear(descriptor)
            while self._resting and self._resting[0][0] <= time.perf_counter():
                self._ask(heapq.heappop(self._resting)[2])

    def _longest_wait(self) -> float:
        return max(0.0, self._resting[0][0] - time.perf_counter()) if self._resting else ANSWER_SECONDS

    def _ask(self, member: _Client) -> None:
        self._waiting[member.socket.fileno()] = member
        self._poll.register(member.socket, select.EPOLLIN)
        member.send()

    def _hear(self, descriptor: int) -> None:
        member = self._waiting[descriptor]
        over, answer = member.hear()
        if not over:
            return
        now = time.perf_counter()
        self._tally.note(answer, self._wanted, now - member.sent_at, in_time=now <= self._deadline)
        rest = answer.retry_after or 0 if answer is not None and answer.status == 503 else 0
        if answer is not None and not rest and now < self._deadline:
            member.send()
            return
        self._poll.unregister(descriptor)
        del self._waiting[descriptor]
        if now + rest < self._deadline:
            member.close()
            member.connect()  # the old connection is lost, or will have idled for longer than servers like
            heapq.heappush(self._resting, (now + rest, id(member), member))
