"""One writer a checkpoint: a lock that the kernel releases when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from pipelines.errors import DataRefused, GridwatchError, InfrastructureUnavailable
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.store_lease import StoreLease
from pipelines.identity.store_objects import StoreObject
from pipelines.places import make_folder, remove_empty
from pipelines.settings import Settings

LOCK_NAME = "gridwatch.lock"
_JVM_LIMIT_S = 60.0


class CheckpointLock:
    """The right to write checkpoint and tables, held from `acquire` to `release` or to the end of the process.

    A lock of the file `<pipeline.checkpoint>/<name>`; the file tells who holds it, and stays, unless the folder was
    made for it and holds nothing else at the end. For a checkpoint in an object store the file lies in the temporary
    folder and keeps out this user's processes that have the same one; all others, of this machine too, are kept out by
    a lease in the store, if the store's keys are given and it knows conditional writes.
    """

    def __init__(self, settings: Settings, command: str, *, name: str = LOCK_NAME) -> None:
        self._place = settings.pipeline.checkpoint
        self._command = command
        self._path = lock_path(settings, name)
        self._file: IO[str] | None = None
        self._made: list[Path] = []
        self._lease = _lease(settings, command, name)

    def acquire(self) -> Self:
        """Take the lock. Raises DataRefused, naming the holder, when another process has it, InfrastructureUnavailable
        while the last holder's Java does not end."""
        file = self._lock_file()
        while not _is_at(file, self._path):  # its last holder removed it before we had the lock
            file.close()
            file = self._lock_file()
        try:
            _wait_for_jvm(_read(file))
        except InfrastructureUnavailable:
            file.close()
            raise
        try:
            if self._lease is not None:
                self._lease.acquire(_identity(file))
        except GridwatchError:
            file.close()
            raise
        self._file = file
        self._write()
        return self

    def _lock_file(self) -> IO[str]:
        try:
            self._made = make_folder(self._path.parent) or self._made
            file = self._path.open("a+", encoding="utf-8")
        except OSError as error:
            raise InfrastructureUnavailable(
                f"pipeline.checkpoint = {self._place}: {error.strerror}; set it to a folder you may write"
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _read(file)
            file.close()
            raise DataRefused(
                f"pipeline.checkpoint = {self._place} is in use by {describe_holder(holder)}; stop it first, or"
                " give this"
                " run a pipeline.checkpoint and a lake.root of its own"
            ) from None
        return file

    def note_jvm(self, pid: int | None) -> None:
        """Note the Java process that works for the holder: the next holder waits for its end."""
        self._write(jvm=pid, jvm_started=None if pid is None else _started(pid))

    def release(self) -> None:
        """Give the lock back; done by the kernel too when the process dies."""
        if self._file is not None:
            if self._lease is not None:
                self._lease.release()
            self._file.truncate(0)
            if self._made and list(self._path.parent.iterdir()) == [self._path]:
                self._path.unlink()
                remove_empty(self._made)
            self._file.close()
            self._file = None

    def _write(self, **more: Any) -> None:
        if self._file is None:
            return
        said = {
            "pid": os.getpid(), "host": socket.gethostname(), "command": self._command,
            "since": datetime.now(UTC).isoformat(timespec="seconds"), **more,
        }  # fmt: skip
        self._file.truncate(0)
        self._file.write(json.dumps(said))
        self._file.flush()

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def lock_path(settings: Settings, name: str = LOCK_NAME) -> Path:
    """File of the lock."""
    files = CheckpointFiles(settings)
    if files.is_folder:
        return files.folder / name
    key = hashlib.sha256(files.root.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"gridwatch-{os.getuid()}-{key}-{name}"


def _lease(settings: Settings, command: str, name: str) -> StoreLease | None:
    """What all machines see of the lock; None for a folder, and without keys of our own to sign with."""
    files, store = CheckpointFiles(settings), settings.store
    if files.is_folder or not (store.access_key and store.secret_key):
        return None
    bucket, _, prefix = files.root.partition("://")[2].partition("/")
    place = StoreObject(store, bucket, f"{prefix}/{name}".lstrip("/"))
    about = {"pid": os.getpid(), "command": command}
    return StoreLease(place, about, patience_s=settings.kafka.connect_timeout)


def holder_of(settings: Settings, name: str = LOCK_NAME) -> dict[str, Any] | None:
    """Who holds the lock now (pid, host, command, since); None when nobody does. Nothing is changed."""
    try:
        with lock_path(settings, name).open("r", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return _read(file)
    except OSError:
        return None
    return None


def describe_holder(holder: dict[str, Any]) -> str:
    """One phrase.

    >>> describe_holder({"command": "gridwatch run", "pid": 7, "host": "a", "since": "2026-03-01T00:00:00+00:00"})
    '`gridwatch run`, process 7 on a since 2026-03-01T00:00:00+00:00'
    """
    if not holder:
        return "another process"
    return f"`{holder['command']}`, process {holder['pid']} on {holder['host']} since {holder['since']}"


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _identity(file: IO[str]) -> str:
    """Tells an open file from all others that are open, on this machine and on one of the same name.

    Without /proc only from those of this machine. After a restart of the machine it is another one.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    at = os.fstat(file.fileno())
    return f"{boot}:{at.st_dev}:{at.st_ino}"


def _read(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        found = json.loads(file.read() or "{}")
    except ValueError:  # the holder died while it wrote
        return {}
    return found if isinstance(found, dict) else {}


def _wait_for_jvm(last: dict[str, Any]) -> None:
    """Java ends a moment after the Python it works for was killed; until then it may finish a write."""
    pid, started = last.get("jvm"), last.get("jvm_started")
    if not pid or not started or last.get("host") != socket.gethostname():
        return
    deadline = time.monotonic() + _JVM_LIMIT_S
    while _started(int(pid)) == started:
        if time.monotonic() > deadline:
            raise InfrastructureUnavailable(
                f"Java process {pid} of the last run still works on this checkpoint: start again when it has ended, or"
                " end it"
            )
        time.sleep(0.1)


def _started(pid: int) -> str | None:
    """When a running process began, in the kernel's ticks: its id alone may have been given to another one since.

    None when it has ended, is a zombie, or there is no /proc.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else fields[18]
