"""Many clients at once, each sending its next request when it has its answer: a closed loop in one thread."""

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
    members = [_Client(address, request) for _ in range(clients)]
    try:
        _drive(members, wanted, tally)
    finally:
        for member in members:
            member.socket.close()
    tally.client_cpu_seconds = time.process_time() - before
    return tally


def _drive(members: list[_Client], wanted: bytes, tally: Tally) -> None:
    poll = select.epoll()
    by_descriptor: dict[int, _Client] = {}
    deadline = time.perf_counter() + tally.seconds
    for member in members:
        _join(poll, by_descriptor, member)
    while by_descriptor:
        ready = poll.poll(ANSWER_SECONDS)
        if not ready:
            raise BadAnswer(f"{len(by_descriptor)} requests had no answer within {ANSWER_SECONDS:g} s")
        for descriptor, _ in ready:
            _serve(poll, by_descriptor, descriptor, (wanted, tally, deadline))
    poll.close()


def _serve(poll: select.epoll, members: dict[int, _Client], descriptor: int, terms: tuple[bytes, Tally, float]) -> None:
    wanted, tally, deadline = terms
    member = members[descriptor]
    over, answer = member.hear()
    if not over:
        return
    now = time.perf_counter()
    tally.note(answer, wanted, now - member.sent_at, in_time=now <= deadline)
    if answer is not None and now < deadline:
        member.send()
        return
    poll.unregister(descriptor)
    del members[descriptor]
    if now < deadline:
        member.socket.close()
        member.connect()
        _join(poll, members, member)


def _join(poll: select.epoll, members: dict[int, _Client], member: _Client) -> None:
    members[member.socket.fileno()] = member
    poll.register(member.socket, select.EPOLLIN)
    member.send()
