"""One object of the store, read and written with conditions that the store judges: what pyarrow's client cannot say."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from pipelines.settings import Store

_TIMEOUT_S = 5.0
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True)
class Answer:
    """Status, the object's tag (quoted, as S3 gives it; empty without one) and the body."""

    status: int
    tag: str
    body: bytes


@dataclass(frozen=True)
class StoreObject:
    """An object by bucket and key; `store` must have both keys. A request is one attempt; OSError without an answer."""

    store: Store
    bucket: str
    key: str

    def get(self) -> Answer:
        """Read it; status 404 when it is not there."""
        return self._ask("GET", b"", {})

    def put_new(self, body: bytes) -> Answer:
        """Write it unless it is there; status 412 when it is."""
        return self._ask("PUT", body, {"if-none-match": "*"})

    def put_over(self, tag: str, body: bytes) -> Answer:
        """Write it when it still has this tag; status 412 or 404 when it has not."""
        return self._ask("PUT", body, {"if-match": tag})

    def delete(self) -> Answer:
        """Remove it, whatever it is."""
        return self._ask("DELETE", b"", {})

    def _ask(self, method: str, body: bytes, condition: Mapping[str, str]) -> Answer:
        scheme, host, path = self._address()
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest()
        signed = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": now, **condition}
        headers = signed | {"authorization": self._authorization(method, path, signed)}
        connection = self._connection(scheme, host)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers.get("ETag", ""), answer.read())
        except http.client.HTTPException as problem:
            raise ConnectionError(f"no answer to {method} {path}: {problem!r}") from None
        finally:
            connection.close()

    def _address(self) -> tuple[str, str, str]:
        """Scheme, host and path, by the settings of the store."""
        given = urlsplit(self.store.endpoint or f"https://s3.{self.store.region}.amazonaws.com")
        path = "/" + quote(self.key)
        if self.store.path_style:
            return given.scheme, given.netloc, f"/{self.bucket}{path}"
        return given.scheme, f"{self.bucket}.{given.netloc}", path

    def _connection(self, scheme: str, host: str) -> http.client.HTTPConnection:
        if scheme == "http":
            return http.client.HTTPConnection(host, timeout=_TIMEOUT_S)
        trust = ssl.create_default_context(cafile=self.store.ca_file)
        return http.client.HTTPSConnection(host, timeout=_TIMEOUT_S, context=trust)

    def _authorization(self, method: str, path: str, signed: Mapping[str, str]) -> str:
        """The header of Amazon's signature, version 4; all given headers are signed."""
        names = ";".join(sorted(signed))
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        request = "\n".join((method, path, "", lines, names, signed["x-amz-content-sha256"]))
        now = signed["x-amz-date"]
        parts = (now[:8], self.store.region, "s3", "aws4_request")
        scope = "/".join(parts)
        text = "\n".join((_ALGORITHM, now, scope, hashlib.sha256(request.encode()).hexdigest()))
        access, secret = self._keys()
        key = f"AWS4{secret}".encode()
        for part in (*parts, text):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return f"{_ALGORITHM} Credential={access}/{scope}, SignedHeaders={names}, Signature={key.hex()}"

    def _keys(self) -> tuple[str, str]:
        access, secret = self.store.access_key, self.store.secret_key
        if access is None or secret is None:
            raise ValueError("store.access_key and store.secret_key are needed to sign a request")
        return access.get_secret_value(), secret.get_secret_value()
