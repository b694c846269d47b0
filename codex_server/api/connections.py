"""How many connections are held at once: in all, and for each address, so that nobody keeps the others out.

A connection costs nothing but a descriptor, and whoever has no token can hold many. Where there are too many, the one
that has been idle the longest is closed for the new one; where none is idle, the new one is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Protocol

Network = IPv4Network | IPv6Network
_MOST = 10_000
_SHARE_OF_DESCRIPTORS = 2
"""One in so many is for connections; the others are for sandboxes, whose executions must not fail for want of one."""
_SHARE_OF_ONE_ADDRESS = 2
"""One address may hold one in so many connections."""


class Connection(Protocol):
    """One client's."""

    @property
    def idle(self) -> bool:
        """Whether no request of it is being answered."""

    def close(self) -> None:
        """End it."""


@dataclass(slots=True)
class Connections:
    """Those that are open, by address. ``proxies`` are networks whose addresses speak for many, without a bound."""

    most: int
    most_of_one: int
    proxies: Sequence[Network] = ()
    _open: dict[str, dict[Connection, None]] = field(default_factory=dict)

    @classmethod
    def within(cls, descriptors: int, proxies: Sequence[Network] = ()) -> "Connections":
        """The bounds for a process that may have so many descriptors."""
        most = max(2, min(_MOST, descriptors // _SHARE_OF_DESCRIPTORS))
        return cls(most, max(1, most // _SHARE_OF_ONE_ADDRESS), proxies)

    def __len__(self) -> int:
        """How many are open."""
        return sum(map(len, self._open.values()))

    def admit(self, connection: Connection, address: str) -> bool:
        """Take ``connection`` in, and close an idle one for it where that is needed. False when it cannot be taken."""
        own = self._open.get(address, {})
        if len(own) >= self.most_of_one and not self._is_proxy(address) and not self._close_idle(address):
            return False
        if len(self) >= self.most and not self._close_idle(max(self._open, key=lambda known: len(self._open[known]))):
            return False
        self._open.setdefault(address, {})[connection] = None
        return True

    def forget(self, connection: Connection, address: str) -> None:
        """It is closed."""
        own = self._open.get(address, {})
        own.pop(connection, None)
        if not own:
            self._open.pop(address, None)

    def _close_idle(self, address: str) -> bool:
        oldest = next((connection for connection in self._open[address] if connection.idle), None)
        if oldest is None:
            return False
        self.forget(oldest, address)
        oldest.close()
        return True

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.proxies)
