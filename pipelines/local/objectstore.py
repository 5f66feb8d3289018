"""A real MinIO server as a child process: S3 on a loopback port, without its web console."""

from __future__ import annotations

import http.client
import os
import secrets
from pathlib import Path

from pyarrow.fs import S3FileSystem

from pipelines.local import Say, quiet
from pipelines.local.bucket import ensure_bucket, store_filesystem
from pipelines.local.minio_build import build_minio
from pipelines.local.ports import LOOPBACK, free_port, is_open
from pipelines.local.processes import Child
from pipelines.local.server import LocalServer
from pipelines.local.state import RunState, forget_state, require_not_running, stop_recorded, write_state

STATE_NAME = "objectstore"
REGION = "us-east-1"
_CREDENTIALS = "objectstore.env"


class RunningObjectStore(LocalServer):
    """One MinIO server: address, keys and data stay the same over `restart`."""

    name = "MinIO object store"

    def __init__(self, program: Path, run_dir: Path, *, port: int, detached: bool = False) -> None:
        super().__init__(port=port, log=run_dir / "minio.log", detached=detached)
        self.run_dir = run_dir
        self.access_key = f"gridwatch-{secrets.token_hex(4)}"
        self.secret_key = secrets.token_urlsafe(30)
        self._program = program

    def __repr__(self) -> str:
        return f"RunningObjectStore({self.endpoint})"

    @property
    def endpoint(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://{self.address}"

    def answers(self) -> bool:
        """Whether its own health check says that it serves requests."""
        if not is_open(self.port):
            return False
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=5)  # never through a proxy
        try:
            connection.request("GET", "/minio/health/live")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def create_bucket(self, name: str) -> None:
        """Make a bucket unless it exists. Raises InfrastructureUnavailable when the store refuses."""
        ensure_bucket(self.filesystem(allow_bucket_creation=True), name, where=self.endpoint)

    def filesystem(self, *, allow_bucket_creation: bool = False) -> S3FileSystem:
        """The store as pyarrow reads and writes it; paths are `bucket/key`."""
        return store_filesystem(
            self.endpoint,
            self.access_key,
            self.secret_key,
            REGION,
            allow_bucket_creation=allow_bucket_creation,
        )

    def _start_process(self) -> Child:
        # --anonymous keeps credentials out of the log; an own, empty folder of certificates keeps it at http.
        argv = [str(self._program), "server", "--anonymous", "--address", self.address]
        folders = ["--certs-dir", str(self.run_dir / "certs"), str(self.run_dir / "data")]
        environment = self._environment()
        return Child.start(self.name, argv + folders, log=self.log, env=environment, detached=self._detached)

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MINIO_")}
        return inherited | {
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "HOME": str(self.run_dir),
        }


def start_objectstore(
    run_dir: Path, *, port: int | None = None, detached: bool = False, say: Say = quiet
) -> RunningObjectStore:
    """Start MinIO with its data in `run_dir` and new random keys, and wait until it is healthy.

    Raises InfrastructureUnavailable when it cannot be built or does not come up.
    """
    program = build_minio(say)
    folder = run_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    store = RunningObjectStore(program, folder, port=port or free_port(), detached=detached)
    say(f"starting MinIO at {store.endpoint}")
    return store.start()


def start_detached_objectstore(run_dir: Path, *, port: int | None = None, say: Say = quiet) -> RunningObjectStore:
    """Start a store that outlives this process; `stop_detached_objectstore` with the same folder ends it.

    Its address and keys are in `credentials_file(run_dir)`, readable by the user only.
    Raises SettingsError when one of this folder runs already.
    """
    require_not_running(run_dir, STATE_NAME)
    store = start_objectstore(run_dir, port=port, detached=True, say=say)
    _write_credentials(store)
    write_state(run_dir, RunState.of(STATE_NAME, store.pid, address=store.endpoint))
    return store


def stop_detached_objectstore(run_dir: Path) -> bool:
    """Stop the store left running from this folder and forget its keys; False when none runs. Data stay."""
    stopped = stop_recorded(run_dir, STATE_NAME)
    forget_state(run_dir, STATE_NAME)
    credentials_file(run_dir).unlink(missing_ok=True)
    return stopped


def credentials_file(run_dir: Path) -> Path:
    """The shell file (`set -a; . FILE`) that points gridwatch at the detached store of this folder."""
    return run_dir / _CREDENTIALS


def _write_credentials(store: RunningObjectStore) -> None:
    lines = {
        "GRIDWATCH_STORE__ENDPOINT": store.endpoint,
        "GRIDWATCH_STORE__ACCESS_KEY": store.access_key,
        "GRIDWATCH_STORE__SECRET_KEY": store.secret_key,
    }
    path = credentials_file(store.run_dir)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.writelines(f"{name}={value}\n" for name, value in lines.items())
