"""Trust in the object store's certificate, told to each of the four libraries that reach it."""

from __future__ import annotations

import atexit
import os
import ssl
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import SettingsError
from pipelines.settings import Store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_PASSWORD = "x"  # Java wants one, as characters; the file holds public certificates only
_RUST_VARIABLE = "SSL_CERT_FILE"


def trust_store_ca(spark: SparkSession, store: Store) -> None:
    """Make the driver's JVM trust `store.ca_file` beside Java's own authorities.

    Java reads its trust store once, at its first TLS connection, so this must come before. Executors on other
    machines need it in their own Java.
    """
    if store.ca_file is None:
        return
    jvm: Any = spark.sparkContext._jvm
    kind = jvm.java.security.KeyStore.getDefaultType()  # reads the older format too
    known = jvm.java.security.KeyStore.getInstance(kind)
    stream = jvm.java.io.FileInputStream(_java_authorities(jvm))
    known.load(stream, None)
    stream.close()
    for number, certificate in enumerate(_certificates(jvm, store.ca_file)):
        known.setCertificateEntry(f"gridwatch-{number}", certificate)
    handle, path = tempfile.mkstemp(prefix="gridwatch-trust-")
    os.close(handle)
    target = jvm.java.io.FileOutputStream(path)
    known.store(target, jvm.java.lang.Character.toChars(ord(_PASSWORD)))
    target.close()
    jvm.java.io.File(path).deleteOnExit()
    for name, value in (("", path), ("Type", kind), ("Password", _PASSWORD)):
        jvm.java.lang.System.setProperty(f"javax.net.ssl.trustStore{name}", value)


def trust_in_this_process(store: Store) -> None:
    """Make the Delta library for Python trust `store.ca_file`: it reads the variable SSL_CERT_FILE."""
    if store.ca_file is not None:
        os.environ[_RUST_VARIABLE] = _bundle(store.ca_file)


@cache
def _bundle(ca_file: str) -> str:
    """A file with the machine's authorities and ours: the variable replaces the machine's, for Python too."""
    require_readable(ca_file)
    machine = ssl.get_default_verify_paths().cafile
    parts = [Path(file).read_text(encoding="utf-8") for file in (machine, ca_file) if file and Path(file).is_file()]
    handle, path = tempfile.mkstemp(prefix="gridwatch-trust-", suffix=".pem")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write("\n".join(parts))
    atexit.register(Path(path).unlink, missing_ok=True)
    return path


def require_readable(ca_file: str) -> None:
    """Raises SettingsError unless the file holds a PEM certificate."""
    try:
        text = Path(ca_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise SettingsError(f"store.ca_file = {ca_file}: {reason}; it must be a PEM file of certificates") from None
    if "BEGIN CERTIFICATE" not in text:
        raise SettingsError(f"store.ca_file = {ca_file} holds no certificate; it must be a PEM file of certificates")


def _certificates(jvm: Any, ca_file: str) -> list[Any]:
    require_readable(ca_file)
    factory = jvm.java.security.cert.CertificateFactory.getInstance("X.509")
    stream = jvm.java.io.FileInputStream(ca_file)
    try:
        return list(factory.generateCertificates(stream))
    finally:
        stream.close()


def _java_authorities(jvm: Any) -> str:
    """The file of authorities that Java trusts now."""
    system = jvm.java.lang.System
    given = system.getProperty("javax.net.ssl.trustStore")
    return str(given or f"{system.getProperty('java.home')}/lib/security/cacerts")
