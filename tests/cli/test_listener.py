import socket

import pytest

from codex_server.cli.listener import base_url, bind_listener
from codex_server.errors import StartupError


def test_port_zero_takes_a_free_port():
    with bind_listener("127.0.0.1", 0) as listener:
        assert listener.getsockname()[1] > 0


def test_a_port_in_use_is_one_clear_line_with_the_remedy():
    with bind_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(StartupError) as caught:
            bind_listener("127.0.0.1", port)
    assert caught.value.detail == (
        f"port {port} on 127.0.0.1 is in use, perhaps by another codex-server; stop that one, "
        f"or take another: --port {port + 1} (CODEX_PORT={port + 1} with make)"
    )


def test_a_connection_that_was_just_closed_does_not_keep_the_port():
    with bind_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            listener.accept()[0].close()
    bind_listener("127.0.0.1", port).close()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address_is_bound_with_brackets_or_without(host: str):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no ::1 here")
    with bind_listener(host, 0) as listener:
        assert listener.getsockname()[0] == "::1"


def test_an_address_of_another_machine_is_refused_with_the_remedy():
    with pytest.raises(StartupError, match=r"192\.0\.2\.1 is not an address of this machine"):
        bind_listener("192.0.2.1", 0)


def test_an_address_that_is_none_is_refused():
    with pytest.raises(StartupError, match=r"'999\.1\.1\.1' is not known here"):
        bind_listener("999.1.1.1", 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("[::1]", "http://[::1]:80"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:80"),
        ("::", "http://[::1]:80"),
        ("box.example", "http://box.example:80"),
    ],
)
def test_the_url_is_one_that_works_on_this_machine(host: str, url: str):
    assert base_url(host, 80) == url
