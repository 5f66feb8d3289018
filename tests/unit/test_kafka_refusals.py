"""What a broker says last, right before it closes, is heard by kafka-python while credentials are tried."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest
from kafka.net.transport import KafkaTCPTransport

from pipelines.kafka_refusals import RefusedCredentials


@pytest.fixture
def hung_up() -> Iterator[KafkaTCPTransport]:
    """A connection whose other end has said its last words and closed."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.sendall(b"refused")
    theirs.close()
    with ours:
        yield KafkaTCPTransport(None, ours)


def test_the_last_words_come_before_the_end(hung_up: KafkaTCPTransport) -> None:
    with RefusedCredentials():
        assert hung_up._sock_recv() == (b"refused", None)
        data, end = hung_up._sock_recv()
    assert data == b""
    assert end is not None


def test_afterwards_the_client_is_as_it_was() -> None:
    before = KafkaTCPTransport._sock_recv
    with RefusedCredentials():
        assert KafkaTCPTransport._sock_recv is not before
    assert KafkaTCPTransport._sock_recv is before


def test_a_refusal_in_the_clients_log_is_seen() -> None:
    with RefusedCredentials() as refused:
        logging.getLogger("kafka.net").warning("no answer")
        assert not refused.seen
        logging.getLogger("kafka.net").warning("Bootstrap failed: %s", "SaslAuthenticationFailedError")
    assert refused.seen
