"""How many connections are held at once: in all, and for each address, so that nobody keeps the others out.

A connection costs nothing but a descriptor, and whoever has no token can hold many. Where there are too many, the one
that has been idle the longest is closed for the new one: of the new one's own address where that holds its share, else
of the address that holds the most. Where none is idle, one gives way that waits for its client: for the rest of a
request, or to take a response. A request whose response is due is never cut off; the new connection is then refused.

A reverse proxy is one address that speaks for many callers: where it is named as trusted it counts only in all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Protocol

from codex_server.networks import Network

_MOST = 10_000
_MOST_LINGERING = 1_000
_SHARE_OF_DESCRIPTORS = 2
"""One in so many is for connections; the others are for sandboxes, whose executions must not fail for want of one."""
_SHARE_OF_LINGERING = 16
"""One in so many descriptors is for connections whose end was sent, but whose clients still send."""
_SHARE_OF_ONE_ADDRESS = 2
"""One address may hold one in so many connections."""
_PREFIX_OF_ONE_CALLER = 64
"""So many bits of an IPv6 address are somebody's; the others are as many addresses as they like."""


class Connection(Protocol):
    """One client's."""

    @property
    def idle(self) -> bool:
        """Whether no request of it is being received or carried out, and no response is being sent."""

    @property
    def waiting(self) -> bool:
        """Whether it waits for its client, who has sent half of a request or takes no response."""

    def close(self) -> None:
        """End it."""


@dataclass(slots=True)
class Connections:
    """Those that are open, by address. ``proxies`` are networks whose addresses speak for many, without a bound."""

    most: int
    most_of_one: int
    proxies: Sequence[Network] = ()
    lingering: "Connections | None" = None
    """Those whose clients still send after the last response: bounded apart, so that they keep nobody out."""
    _count: int = 0
    _open: dict[str, dict[Connection, None]] = field(default_factory=dict)
    """By caller, the one that was used the longest ago first."""

    @classmethod
    def within(cls, descriptors: int, proxies: Sequence[Network] = ()) -> "Connections":
        """The bounds for a process that may have so many descriptors."""
        return cls._sharing(
            min(_MOST, descriptors // _SHARE_OF_DESCRIPTORS),
            proxies,
            cls._sharing(min(_MOST_LINGERING, descriptors // _SHARE_OF_LINGERING), proxies),
        )

    @classmethod
    def _sharing(cls, most: int, proxies: Sequence[Network], lingering: "Connections | None" = None) -> "Connections":
        most = max(2, most)
        return cls(most, max(1, most // _SHARE_OF_ONE_ADDRESS), proxies, lingering)

    def __len__(self) -> int:
        """How many are open."""
        return self._count

    def admit(self, connection: Connection, address: str) -> bool:
        """Take ``connection`` in, and close another for it where that is needed. False when it cannot be taken."""
        caller = _caller_of(address)
        full = len(self._open.get(caller, ())) >= self.most_of_one and not self._is_proxy(address)
        if full and not (self._close_idle(caller) or self._close_waiting(caller)):
            return False
        if self._count >= self.most and not self._make_room():
            return False
        self._open.setdefault(caller, {})[connection] = None
        self._count += 1
        return True

    def rest(self, connection: Connection, address: str) -> None:
        """It becomes idle now, later than all that are idle already."""
        own = self._open.get(_caller_of(address), {})
        if connection in own:
            del own[connection]
            own[connection] = None

    def linger(self, connection: Connection, address: str) -> None:
        """Its last response is out, and it only waits for its client to end: it keeps nobody out from now on."""
        self._drop(connection, _caller_of(address))
        if self.lingering is not None:
            self.lingering.admit(connection, address)

    def forget(self, connection: Connection, address: str) -> None:
        """It is closed."""
        self._drop(connection, _caller_of(address))
        if self.lingering is not None:
            self.lingering.forget(connection, address)

    def _drop(self, connection: Connection, caller: str) -> None:
        own = self._open.get(caller, {})
        if connection in own:
            del own[connection]
            self._count -= 1
        if not own:
            self._open.pop(caller, None)

    def _make_room(self) -> bool:
        def held(caller: str) -> int:
            return len(self._open[caller])

        if self._close_idle(max(self._open, key=held)):
            return True
        callers = sorted(self._open, key=held, reverse=True)
        return any(map(self._close_idle, callers)) or any(map(self._close_waiting, callers))

    def _close_idle(self, caller: str) -> bool:
        return self._close(caller, next((each for each in self._open.get(caller, ()) if each.idle), None))

    def _close_waiting(self, caller: str) -> bool:
        return self._close(caller, next((each for each in self._open.get(caller, ()) if each.waiting), None))

    def _close(self, caller: str, connection: Connection | None) -> bool:
        if connection is None:
            return False
        self._drop(connection, caller)
        connection.close()
        return True

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.proxies)


def _caller_of(address: str) -> str:
    """Whom to count the connections of ``address`` for."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address) or parsed.is_loopback:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((parsed, _PREFIX_OF_ONE_CALLER), strict=False).network_address)
