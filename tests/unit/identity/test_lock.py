"""One writer a checkpoint: the second is refused, and the lock of a killed holder is free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from pipelines.errors import DataRefused, InfrastructureUnavailable
from pipelines.identity.lock import CheckpointLock, _started, holder_of
from tests.unit.identity.lakes import settings_in

HOLD = """
import sys, time
from pathlib import Path
from pipelines.identity.lock import CheckpointLock
from tests.unit.identity.lakes import settings_in
lock = CheckpointLock(settings_in(Path(sys.argv[1])), "gridwatch run").acquire()
print("held", flush=True)
time.sleep(60)
"""


def start_holder(folder: Path) -> subprocess.Popen[str]:
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": str(root)}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True, env=environment, cwd=root
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_the_second_is_refused_with_the_name_of_the_first_and_a_killed_one_leaves_it_free(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    holder = start_holder(tmp_path)
    try:
        with pytest.raises(DataRefused, match=rf"in use by `gridwatch run`, process {holder.pid} on .*; stop it first"):
            CheckpointLock(settings, "gridwatch maintain").acquire()
        found = holder_of(settings)
        assert found is not None
        assert found["pid"] == holder.pid
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert holder_of(settings) is None
    with CheckpointLock(settings, "gridwatch maintain"):
        assert holder_of(settings) is not None
    assert holder_of(settings) is None


def test_the_next_holder_waits_for_the_java_of_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that outlives its parent stands for the JVM of a pipeline that was killed a moment ago."""
    settings = settings_in(tmp_path)
    left = subprocess.Popen(["sleep", "30"])
    try:
        lock = CheckpointLock(settings, "gridwatch run").acquire()
        lock.note_jvm(left.pid)
        assert lock._file is not None
        lock._file.close()  # as the kernel does for a killed process: the text stays
        monkeypatch.setattr("pipelines.identity.lock._JVM_LIMIT_S", 0.3)
        with pytest.raises(InfrastructureUnavailable, match=f"Java process {left.pid} of the last run still works"):
            CheckpointLock(settings, "gridwatch run").acquire()
    finally:
        left.kill()
        left.wait()
    CheckpointLock(settings, "gridwatch run").acquire().release()


def test_another_process_with_the_id_of_the_old_java_is_not_waited_for(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    lock = CheckpointLock(settings, "gridwatch run").acquire()
    lock._write(jvm=os.getpid(), jvm_started="1")
    assert _started(os.getpid()) not in (None, "1")
    assert lock._file is not None
    lock._file.close()
    CheckpointLock(settings, "gridwatch run").acquire().release()


def test_a_checkpoint_in_a_store_is_locked_on_this_machine(tmp_path: Path) -> None:
    settings = settings_in(tmp_path).model_copy(
        update={
            "pipeline": settings_in(tmp_path).pipeline.model_copy(update={"checkpoint": f"s3a://b/{tmp_path.name}"})
        }
    )
    with CheckpointLock(settings, "gridwatch run"), pytest.raises(DataRefused, match="is in use"):
        CheckpointLock(settings, "gridwatch run").acquire()


def test_a_folder_made_for_the_lock_goes_with_it_unless_it_holds_something(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "new")
    with CheckpointLock(settings, "gridwatch run"):
        assert (tmp_path / "new" / "checkpoint").is_dir()
    assert not (tmp_path / "new").exists()
    with CheckpointLock(settings, "gridwatch run"):
        (tmp_path / "new" / "checkpoint" / "gridwatch.json").write_text("{}")
    with CheckpointLock(settings, "gridwatch run"):
        pass
    assert (tmp_path / "new" / "checkpoint" / "gridwatch.json").is_file()


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, take, taken = CheckpointLock(settings_in(tmp_path), "gridwatch run"), CheckpointLock._lock_file, []

    def late(self: CheckpointLock) -> IO[str]:
        file = take(self)
        if not taken:
            self._path.unlink()
        taken.append(file)
        return file

    monkeypatch.setattr(CheckpointLock, "_lock_file", late)
    with lock:
        assert len(taken) == 2
        assert holder_of(settings_in(tmp_path)) is not None
