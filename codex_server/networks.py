"""Addresses and networks as an operator writes them, and hosts to listen on."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

Network = IPv4Network | IPv6Network


def parse_networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks in a text with commas. Raises ``ValueError``."""
    return tuple(ip_network(word.strip()) for word in text.split(",") if word.strip())


def with_mapped(networks: Iterable[Network]) -> tuple[Network, ...]:
    """``networks``, and the IPv4 ones in IPv6 too: so their addresses look to a server that listens on ``::``."""
    found: list[Network] = []
    for network in networks:
        found.append(network)
        if isinstance(network, IPv4Network):
            found.append(IPv6Network(f"::ffff:{network.network_address}/{96 + network.prefixlen}"))
    return tuple(found)


def bare_host(host: str) -> str:
    """An address without the brackets that it has in a URL: ``::1`` for ``[::1]``."""
    host = host.strip()
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host
