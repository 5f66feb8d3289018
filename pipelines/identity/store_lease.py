"""A lock that every machine sees: an object in the store that its holder writes anew, by conditional writes.

A store frees nothing when a holder dies. So the holder writes its object again every few seconds, and who finds one
watches it: an object that changes has a holder; one that stays as it is for the whole lease has none any more and is
taken over. No clock of another machine is read. Two can never take it over at once: the write names the tag it saw.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from pipelines.errors import DataRefused, InfrastructureUnavailable
from pipelines.identity.store_objects import Answer, StoreObject

LEASE_S = 30.0
_RENEWALS = 6
"""In one lease: a holder that misses a few, in an outage, is not taken for dead."""
_POLL_S = 1.0
_DONE = (200, 204)
_ABSENT = 404
_NOT_MET = (_ABSENT, 409, 412)
_UNKNOWN = (400, 501)
"""What a store says that knows no conditional writes."""
Holder = dict[str, Any]


def end_this_process() -> None:
    """What a holder does that has lost its lease: the signal that ends a job in order."""
    os.kill(os.getpid(), signal.SIGTERM)


class StoreLease:
    """The lease of one object, held from `acquire` to `release`; its thread renews it.

    `lost` is called once, in that thread, when another process has taken it over.
    """

    def __init__(
        self,
        place: StoreObject,
        about: Holder,
        *,
        patience_s: float,
        lease_s: float = LEASE_S,
        lost: Callable[[], None] = end_this_process,
    ) -> None:
        self._place = place
        self._about = {"host": socket.gethostname(), **about, "lease": uuid.uuid4().hex}
        self._patience_s = patience_s
        self._lease_s = lease_s
        self._lost = lost
        self._tag = ""
        self._writes = 0
        self._over = threading.Event()
        self._renewer: threading.Thread | None = None

    @property
    def is_held(self) -> bool:
        """Whether the lease is ours; False too when the store knows no conditional writes."""
        return self._renewer is not None

    def acquire(self, lock_file: str | None = None) -> None:
        """Take the lease, waiting up to its length for one that may be a dead holder's.

        `lock_file`: identity of the file whose lock of the kernel the caller holds; a lease that names the same one is
        not waited for. A store without conditional writes gives none, and nobody is kept out. Raises DataRefused when
        another process holds it, InfrastructureUnavailable when the store does not answer within `patience_s`.
        """
        self._about["lock_file"] = lock_file
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                if self._take():
                    self._start()
                return
            except OSError as problem:
                if time.monotonic() > deadline:
                    raise InfrastructureUnavailable(
                        f"the lock {self._name} cannot be written: {problem}; `gridwatch doctor` looks at the store"
                    ) from None
                time.sleep(_POLL_S)

    def release(self) -> None:
        """Give it back; the object is removed when it is still ours."""
        if self._renewer is None:
            return
        self._over.set()
        self._renewer.join()
        self._renewer = None
        try:
            if self._is_ours(self._look()):
                self._place.delete()
        except OSError:
            return  # it runs out by itself

    def _take(self) -> bool:
        """Whether the lease is ours now; False when the store knows no such thing."""
        answer = self._put(self._place.put_new)
        if answer.status == _ABSENT:
            raise ConnectionError(f"there is no bucket {self._place.bucket}")
        if answer.status in _DONE:
            return self._store_obeys()
        if answer.status in _UNKNOWN:
            return False
        found = self._look()
        if found.status == _ABSENT:  # given back in between
            return self._take()
        if not self._is_ours(found):
            self._outlast(found)
        self._tag = found.tag
        return self._put(self._put_over).status in _DONE or self._take()

    def _store_obeys(self) -> bool:
        """A store that ignores conditions writes an object that is there as if it were not."""
        return self._place.put_new(b"{}").status not in _DONE

    def _outlast(self, found: Answer) -> None:
        """Return when the holder of what was found is gone."""
        if self._had_our_file(_read(found)):
            return
        deadline = time.monotonic() + self._lease_s
        while time.monotonic() < deadline:
            time.sleep(min(_POLL_S, self._lease_s / 4))
            now = self._look()
            if now.status == _ABSENT:
                return
            if now.tag != found.tag:
                raise self._refusal(now)

    def _had_our_file(self, holder: Holder) -> bool:
        """Whether the holder had locked the file that is locked by us now: then it is dead.

        A process of this machine with another temporary folder has another file, and may live. So may one of an older
        version, which noted none.
        """
        place = ("host", "lock_file")
        return self._about["lock_file"] is not None and all(holder.get(name) == self._about[name] for name in place)

    def _start(self) -> None:
        self._over.clear()
        self._renewer = threading.Thread(target=self._renew, name="store-lease", daemon=True)
        self._renewer.start()

    def _renew(self) -> None:
        while not self._over.wait(self._lease_s / _RENEWALS):
            try:
                if self._put(self._put_over).status in _NOT_MET and self._is_gone():
                    self._lost()
                    return
            except OSError:
                continue  # a store that is away gives the lease to nobody else

    def _is_gone(self) -> bool:
        """Whether another has the lease, after a write that was refused; when not, the next write will be taken."""
        found = self._look()
        if found.status == _ABSENT:
            self._put(self._place.put_new)
            return False
        self._tag = found.tag  # ours when our last write was done and its reply lost
        return not self._is_ours(found)

    def _look(self) -> Answer:
        """The object as it is. Raises OSError when the store does not tell."""
        found = self._place.get()
        if found.status not in (*_DONE, _ABSENT):
            raise ConnectionError(f"the store answered {found.status}")
        return found

    def _put_over(self, body: bytes) -> Answer:
        return self._place.put_over(self._tag, body)

    def _put(self, write: Callable[[bytes], Answer]) -> Answer:
        """One write of what stands for us, different from the one before; remembers its tag.

        Raises OSError for an answer that says neither yes nor no.
        """
        self._writes += 1
        answer = write(json.dumps(self._about | {"writes": self._writes}).encode())
        if answer.status in _DONE:
            self._tag = answer.tag
        elif answer.status not in _NOT_MET + _UNKNOWN:
            raise ConnectionError(f"the store answered {answer.status}")
        return answer

    def _is_ours(self, found: Answer) -> bool:
        return bool(_read(found).get("lease") == self._about["lease"])

    @property
    def _name(self) -> str:
        return f"s3a://{self._place.bucket}/{self._place.key}"

    def _refusal(self, found: Answer) -> DataRefused:
        holder = _read(found)
        who = f"`{holder.get('command', 'a program')}`, process {holder.get('pid', '?')} on {holder.get('host', '?')}"
        return DataRefused(
            f"the lock {self._name} is held by {who}: stop it first, or give this run a pipeline.checkpoint and a"
            " lake.root of its own"
        )


def _read(found: Answer) -> Holder:
    try:
        document = json.loads(found.body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
