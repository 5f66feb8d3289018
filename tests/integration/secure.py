"""A real broker with TLS, SCRAM and an authorizer, its users and their rights as `conf/security` has them."""

from __future__ import annotations

import secrets
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from pipelines.alerts.group import PREFIX
from pipelines.conf_files import conf_path
from pipelines.local.broker import RunningBroker, start_broker
from pipelines.local.ports import LOOPBACK, free_ports
from pipelines.settings import Settings

PRINCIPALS = ("generator", "pipeline", "alerts", "notify", "console", "reader")


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, a server's key with its chain, and an authority that signed nothing here."""

    ca: Path
    key_and_chain: Path
    foreign_ca: Path
    chain: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    """New ones for 127.0.0.1; the key in the form that Kafka and MinIO read (PKCS #8)."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, foreign = trustme.CA(), trustme.CA()
    server = authority.issue_cert(LOOPBACK, "localhost")
    key = load_pem_private_key(server.private_key_pem.bytes(), None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain = b"".join(blob.bytes() for blob in server.cert_chain_pems)
    made = Certificates(
        *(folder / name for name in ("ca.pem", "server.pem", "foreign.pem", "public.crt", "private.key"))
    )
    made.ca.write_bytes(authority.cert_pem.bytes())
    made.foreign_ca.write_bytes(foreign.cert_pem.bytes())
    made.key_and_chain.write_bytes(pem + chain)
    made.chain.write_bytes(chain)
    made.key.write_bytes(pem)
    return made


@dataclass(frozen=True)
class SecureBroker:
    """The running broker: an admin's listener in clear, and one for users with SASL_SSL."""

    broker: RunningBroker
    address: str
    certificates: Certificates
    passwords: Mapping[str, str] = field(repr=False)

    @property
    def foreign_ca(self) -> Path:
        """An authority that did not sign the broker's certificate."""
        return self.certificates.foreign_ca

    def environment(self, principal: str) -> dict[str, str]:
        """Variables with which gridwatch and the generator come as this user."""
        return {
            "GRIDWATCH_KAFKA__BOOTSTRAP_SERVERS": self.address,
            "GRIDWATCH_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
            "GRIDWATCH_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
            "GRIDWATCH_KAFKA__SASL_USERNAME": principal,
            "GRIDWATCH_KAFKA__SASL_PASSWORD": self.passwords[principal],
            "GRIDWATCH_KAFKA__SSL_CAFILE": str(self.certificates.ca),
        }

    def grant(self, settings: Settings) -> None:
        """Give every user the rights of `conf/security/kafka-acls.toml` on these topics and groups, and no others."""
        table = tomllib.loads(conf_path("security/kafka-acls.toml").read_text(encoding="utf-8"))
        assert set(table) == set(PRINCIPALS)
        acls = [
            ACL(f"User:{user}", "*", ACLOperation[operation], ACLPermissionType.ALLOW,
                _resource(settings, name))
            for user, rights in table.items()
            for name, operations in rights.items()
            for operation in operations
        ]  # fmt: skip
        admin = KafkaAdminClient(bootstrap_servers=self.broker.bootstrap_servers)
        try:
            done = admin.create_acls(acls)
            assert not done["failed"], done["failed"]
        finally:
            admin.close()


def _resource(settings: Settings, name: str) -> ResourcePattern:
    if name == "notify.group":
        return ResourcePattern(ResourceType.GROUP, settings.notify.group)
    if name == "alerts.group":
        return ResourcePattern(ResourceType.GROUP, PREFIX, ACLResourcePatternType.PREFIXED)
    return ResourcePattern(ResourceType.TOPIC, getattr(settings.kafka.topics, name))


@contextmanager
def secure_broker(folder: Path) -> Iterator[SecureBroker]:
    """A KRaft broker with StandardAuthorizer; passwords are random and live in its metadata only as SCRAM hashes."""
    port, controller, secured = free_ports(3)
    certificates = make_certificates(folder / "certificates")
    listeners = f"PLAINTEXT://{LOOPBACK}:{port},SECURE://{LOOPBACK}:{secured}"
    extra = {
        "listeners": f"{listeners},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": "User:ANONYMOUS",  # the listener in clear: the broker itself and the test's admin
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.secure.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "listener.name.secure.ssl.keystore.type": "PEM",
        "listener.name.secure.ssl.keystore.location": str(certificates.key_and_chain),
    }
    passwords = {user: f"canary-{user}-{secrets.token_hex(8)}" for user in PRINCIPALS}
    with start_broker(folder / "broker", port=port, extra=extra) as broker:
        _make_users(broker, passwords)
        yield SecureBroker(broker, f"{LOOPBACK}:{secured}", certificates, passwords)


def _make_users(broker: RunningBroker, passwords: Mapping[str, str]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    try:
        done = admin.alter_user_scram_credentials(
            [
                UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_512, password, iterations=4096)
                for user, password in passwords.items()
            ]
        )
        assert not any(done.values()), done
    finally:
        admin.close()
