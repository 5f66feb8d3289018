"""Whether the brokers' certificate is trusted: kafka-python only logs why a handshake failed, and tries again."""

from __future__ import annotations

import socket
import ssl

from pipelines.credentials import host_of
from pipelines.errors import SettingsError
from pipelines.settings import Kafka

_TIMEOUT_S = 3.0


def tls_problem(kafka: Kafka) -> str | None:
    """What the first broker's certificate fails; None when it is trusted, no TLS is set, or nobody listens.

    Raises SettingsError when `kafka.ssl_cafile` cannot be read or holds no certificate.
    """
    if not kafka.security_protocol.endswith("SSL"):
        return None
    context = trust(kafka.ssl_cafile)
    address = kafka.bootstrap_servers.split(",")[0]
    host, port = host_of(address), int(address.rpartition(":")[2])
    try:
        with (
            socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return None
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {address} is not trusted: {error.verify_message}"
    except OSError:  # nobody there, or no TLS there: waiting may help
        return None


def trust(ca_file: str | None) -> ssl.SSLContext:
    """What is trusted: the machine's authorities, and those of the file. Raises SettingsError when it holds none."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one too
        reason = error.strerror or str(error)
        raise SettingsError(f"kafka.ssl_cafile = {ca_file}: {reason}; it must be a PEM file of certificates") from None
