"""Parses addresses and networks as an operator writes them, and hosts to listen on."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

Network = IPv4Network | IPv6Network


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse addresses and networks separated by commas. Raises ``ValueError``."""
    return tuple(ip_network(word.strip()) for word in text.split(",") if word.strip())


def with_mapped(networks: Iterable[Network]) -> tuple[Network, ...]:
    """Return ``networks`` plus the IPv4-mapped form of each: a server that listens on ``::`` sees IPv4 callers so."""
    found: list[Network] = []
    for network in networks:
        found.append(network)
        if isinstance(network, IPv4Network):
            found.append(IPv6Network(f"::ffff:{network.network_address}/{96 + network.prefixlen}"))
    return tuple(found)


def bare_host(host: str) -> str:
    """Return an address without the brackets that it has in a URL: ``::1`` for ``[::1]``."""
    host = host.strip()
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host
