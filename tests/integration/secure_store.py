"""A real MinIO with TLS, and users with nothing but the shipped bucket policies."""

from __future__ import annotations

import json
import secrets
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

import urllib3
from minio.credentials import StaticProvider
from minio.minioadmin import MinioAdmin
from pyarrow.fs import FileSelector, FileType, S3FileSystem

from pipelines.conf_files import conf_path
from pipelines.local.minio_build import build_minio
from pipelines.local.objectstore import REGION, RunningObjectStore
from pipelines.local.ports import LOOPBACK, free_port, is_open
from tests.integration.secure import Certificates

BUCKET, PREFIX = "gridwatch", "lake"
POLICIES = {"writer": "bucket-policy.json", "reader": "reader-bucket-policy.json"}


class TlsObjectStore(RunningObjectStore):
    """MinIO turns to TLS when its folder of certificates holds a pair."""

    certificates: Certificates

    @property
    def endpoint(self) -> str:
        return f"https://{self.address}"

    def answers(self) -> bool:
        if not is_open(self.port):
            return False
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        connection = HTTPSConnection(LOOPBACK, self.port, timeout=5, context=context)
        try:
            connection.request("GET", "/minio/health/live")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def filesystem(self, *, allow_bucket_creation: bool = False) -> S3FileSystem:
        return self.filesystem_of(self.access_key, self.secret_key, allow_bucket_creation=allow_bucket_creation)

    def filesystem_of(self, access_key: str, secret_key: str, **options: Any) -> S3FileSystem:
        """The store as a user with these keys sees it."""
        return S3FileSystem(
            access_key=access_key, secret_key=secret_key, endpoint_override=self.address, scheme="https", region=REGION,
            tls_ca_file_path=str(self.certificates.ca), **options,
        )  # fmt: skip


@dataclass(frozen=True)
class SecureStore:
    """The running store, and (access key, secret key) of the users named in POLICIES."""

    server: TlsObjectStore
    keys: dict[str, tuple[str, str]] = field(repr=False)

    def environment(self, user: str) -> dict[str, str]:
        """Variables with which gridwatch comes as this user."""
        access_key, secret_key = self.keys[user]
        return {
            "GRIDWATCH_LAKE__ROOT": f"s3a://{BUCKET}/{PREFIX}",
            "GRIDWATCH_STORE__ENDPOINT": self.server.endpoint,
            "GRIDWATCH_STORE__CA_FILE": str(self.server.certificates.ca),
            "GRIDWATCH_STORE__ACCESS_KEY": access_key,
            "GRIDWATCH_STORE__SECRET_KEY": secret_key,
        }

    def seen_by(self, user: str) -> S3FileSystem:
        """The store as pyarrow reads and writes it with the user's keys."""
        return self.server.filesystem_of(*self.keys[user])

    def objects(self) -> dict[str, bytes]:
        """Every object of the bucket."""
        store = self.server.filesystem()
        files = [f for f in store.get_file_info(FileSelector(BUCKET, recursive=True)) if f.type == FileType.File]
        return {file.path: store.open_input_file(file.path).readall() for file in files}


@contextmanager
def secure_store(folder: Path, certificates: Certificates) -> Iterator[SecureStore]:
    """Start it, make the bucket, and a user for each shipped policy."""
    trusted = folder / "certs"
    trusted.mkdir(parents=True)
    shutil.copyfile(certificates.chain, trusted / "public.crt")
    shutil.copyfile(certificates.key, trusted / "private.key")
    server = TlsObjectStore(build_minio(), folder.resolve(), port=free_port())
    server.certificates = certificates
    with server.start():
        server.create_bucket(BUCKET)
        yield SecureStore(server, {user: _make_user(server, user, policy) for user, policy in POLICIES.items()})


def _make_user(server: TlsObjectStore, user: str, policy_file: str) -> tuple[str, str]:
    client = urllib3.PoolManager(ca_certs=str(server.certificates.ca))
    credentials = StaticProvider(server.access_key, server.secret_key)
    admin = MinioAdmin(endpoint=server.address, credentials=credentials, region=REGION, http_client=client)
    text = conf_path(f"security/{policy_file}").read_text(encoding="utf-8")
    keys = f"canary-{user}-{secrets.token_hex(3)}", f"canary-key-{secrets.token_hex(12)}"
    admin.policy_add(user, policy=json.loads(text.replace("BUCKET", BUCKET).replace("PREFIX", PREFIX)))
    admin.user_add(*keys)
    admin.policy_set(user, user=keys[0])
    return keys
