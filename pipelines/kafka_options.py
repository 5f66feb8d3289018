"""How Spark's Kafka source and sink reach the brokers."""

from __future__ import annotations

from pathlib import Path

from pipelines.settings import Kafka


def kafka_client_options(kafka: Kafka) -> dict[str, str]:
    """Options `kafka.*` of Spark's Kafka source and sink; hold the password in clear."""
    options = {
        "kafka.bootstrap.servers": kafka.bootstrap_servers,
        "kafka.security.protocol": kafka.security_protocol,
    }
    if kafka.sasl_password and kafka.sasl_username:
        module = (
            "org.apache.kafka.common.security.plain.PlainLoginModule"
            if kafka.sasl_mechanism == "PLAIN"
            else "org.apache.kafka.common.security.scram.ScramLoginModule"
        )
        user, password = (_quoted(t) for t in (kafka.sasl_username, kafka.sasl_password.get_secret_value()))
        options["kafka.sasl.mechanism"] = kafka.sasl_mechanism
        options["kafka.sasl.jaas.config"] = f"{module} required username={user} password={password};"
    if kafka.ssl_cafile:
        options["kafka.ssl.truststore.type"] = "PEM"
        options["kafka.ssl.truststore.certificates"] = Path(kafka.ssl_cafile).read_text(encoding="utf-8")
    return options


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
