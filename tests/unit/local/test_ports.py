"""Free ports: different, free, and out of the way of outgoing connections."""

from __future__ import annotations

import socket

from pipelines.local.ports import LOOPBACK, free_ports, is_free, is_open, server_range


def test_ports_are_different_and_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free(port) for port in ports)


def test_ports_lie_outside_the_kernels_range_of_outgoing_connections() -> None:
    """A retrying client must not be given the port of the server that is just restarting."""
    with socket.socket() as server, socket.socket() as client:
        server.bind((LOOPBACK, free_ports(1)[0]))
        server.listen()
        client.connect(server.getsockname())
        assert client.getsockname()[1] not in server_range()


def test_a_listening_port_is_open_and_not_free() -> None:
    with socket.socket() as server:
        server.bind((LOOPBACK, free_ports(1)[0]))
        server.listen()
        port = server.getsockname()[1]
        assert is_open(port)
        assert not is_free(port)
    assert not is_open(port)
