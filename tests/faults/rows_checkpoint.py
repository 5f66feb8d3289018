"""Rows 6 to 11, 14, 15 and 30: checkpoint, tables and topics that do not belong together any more."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import NewTopic

from pipelines.local.processes import wait_until
from tests.faults.bench import Bench
from tests.faults.expect import Ended, NotHeld, last_words, newest, require
from tests.faults.matrix import Figures, row
from tests.faults.previous import PREVIOUS, previous_version
from tests.faults.scene import Scene
from tests.integration.support import stopped, wait_for_end

REFUSED = 3
RECORD = "gridwatch-run.json"
_DELETED = ("checkpoint", "panes", "incidents")


def _used(bench: Bench) -> Scene:
    """The shared scene, at rest, with some batches behind it."""
    scene = bench.main
    if not (scene.checkpoint / RECORD).exists() or newest(scene.checkpoint / "archive" / "commits") < 3:
        for _ in range(4):
            scene.traffic.send_polls(12)
            scene.catch_up(whole=False)
        scene.catch_up()
    scene.stop()
    return scene


def _refused_or_right(scene: Scene, *, limit_s: float = 180.0) -> str:
    """Start it: either it ends by itself, with a reason, or it goes on and everything is right in the end."""
    child = scene.start()
    over = wait_until(lambda: not child.is_running() or _caught_up(scene), limit_s, poll_s=0.5)
    require(over, f"neither refused nor caught up within {limit_s:g} s: {last_words(child)}")
    if child.is_running():
        try:
            scene.settle()
        except Ended:
            pass  # the archive had caught up before the windows met what is broken
        else:
            scene.stop()
            return "repaired: everything right"
    code = child.kill()
    require(code not in (0, 130), f"ended with {code}: {last_words(child)}")
    require(last_words(child).startswith("gridwatch: "), f"ends without a word of its own: {last_words(child)}")
    return f"ended with {code}: {last_words(child)}"


def _caught_up(scene: Scene) -> bool:
    return scene.has_archived(scene.ends())


@row(6, "an offsets file is lost", "refused or failed loudly, never silent", short=True)
def offsets_file_lost(bench: Bench) -> Figures:
    """The newest offsets file goes, and records have come since. In full also an older one, and other queries'."""
    main = _used(bench)
    main.traffic.send_polls(5)
    lost = [("archive", 0)] if bench.short else [("archive", 0), ("archive", 1), ("windows", 0)]
    figures: Figures = {}
    for query, back in lost:
        clone = main.copy(f"offsets-{query}-{back}-{main.lives}")
        folder = clone.checkpoint / query / "offsets"
        number = newest(folder) - back
        for file in folder.glob(f"*{number}*"):
            if file.name.lstrip(".").split(".")[0] == str(number):
                file.unlink()
        figures[f"{query}/{number}"] = _refused_or_right(clone)
        clone.close()
    return figures


@row(7, "checkpoint deleted, tables kept", "refused without an explicit new generation", short=True)
def checkpoint_deleted(bench: Bench) -> Figures:
    """The whole folder is gone; or it is there and a table is not: panes, from which the windows go on, or incidents,
    which knows how far their topics are read."""
    clone, without_panes, without_incidents = (_used(bench).copy(f"no-{what}") for what in _DELETED)
    shutil.rmtree(clone.checkpoint)
    for scene, table in ((without_panes, "panes"), (without_incidents, "incidents")):
        shutil.rmtree(Path(scene.place.settings.lake.root) / table)
    return {
        "says": clone.refused(code=REFUSED, says="checkpoint"),
        "without_panes": without_panes.refused(code=REFUSED, says="table panes"),
        "without_incidents": without_incidents.refused(code=REFUSED, says="table incidents"),
    }


@row(8, "checkpoint metadata deleted", "refused with a message", short=True)
def metadata_deleted(bench: Bench) -> Figures:
    """Once Spark's own file, once ours."""
    main, figures = _used(bench), {}
    for name in ("archive/metadata", RECORD):
        clone = main.copy(f"no-{Path(name).name}")
        (clone.checkpoint / name).unlink()
        figures[name] = clone.refused(code=REFUSED, says="checkpoint")
    return figures


@row(9, "truncated state file", "repaired or stopped; never other sums")
def state_truncated(bench: Bench) -> Figures:
    """The newest file of the window state of each partition loses its second half; Spark's checksum of it stays."""
    clone = _used(bench).copy("truncated")
    cut = []
    for folder in sorted((clone.checkpoint / "windows" / "state").glob("0/[0-9]*")):
        files = (path for path in folder.glob("[0-9]*") if path.is_file() and path.suffix != ".crc")
        newest_file = max(files, key=lambda path: path.stat().st_mtime)
        newest_file.write_bytes(newest_file.read_bytes()[: newest_file.stat().st_size // 2])
        for checksum in folder.glob(f".{newest_file.name}*.crc"):
            checksum.unlink()
        cut.append(newest_file.name)
    require(bool(cut), "the window state has no files")
    clone.traffic.send_polls(30)
    return {"cut": cut, "outcome": _refused_or_right(clone)}


@row(10, "query-shaping setting changed", "refused, says which and what to do")
def setting_changed(bench: Bench) -> Figures:
    """Another watermark, and another place to begin at."""
    clone = _used(bench).copy("changed")
    figures = {}
    for assignment in ("detection.watermark=90 s", "pipeline.starting=latest"):
        name = assignment.partition("=")[0]
        figures[assignment] = clone.refused(
            "--set", assignment, code=REFUSED, says=name.replace(".", r"\.") + " = .*: set it back"
        )
    return figures


@row(11, "two pipelines on one checkpoint or one table root", "the second refused")
def two_pipelines(bench: Bench) -> Figures:
    """The first must not notice."""
    main = bench.main
    main.traffic.send_polls(5)
    first = main.running()
    same = main.refused(code=REFUSED, says="is in use by")
    other = main.place.with_settings(pipeline__checkpoint=main.place.folder / "second-checkpoint")
    root = main.refused(code=REFUSED, says="holds archived batches|belongs to generation", place=other)
    require(first.is_running(), f"the first ended: {last_words(first)}")
    return {"one_checkpoint": same, "one_root": root, **main.settle()}


@row(15, "retention overtook the reader", "stops, names the range; a command records it and resumes")
def retention_overtook(bench: Bench) -> Figures:
    """Records that were never read are deleted from the first partition."""
    main = _used(bench)
    main.traffic.send_polls(20)
    settings = main.direct.settings
    topic, start = settings.kafka.topics.readings, main.committed()[0]
    gone = main.ends()[0] - 5
    require(gone > start, "nothing waits in partition 0")
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    admin.delete_records({TopicPartition(topic, 0): gone})
    admin.close()
    clone = main.copy("overtaken")
    line = clone.refused(code=REFUSED, says=str(start))
    require(str(gone) in line or str(gone - 1) in line, f"the end of the range is not named: {line}")
    command = clone.place.gridwatch("skip", "skip-range", f"0:{start}-{gone - 1}")
    said = wait_for_end(command, 120, code=0)
    times = clone.catch_up()
    report = clone.direct.verify()
    require(report.ok, report.verdict)
    return {"lost_range": [start, gone - 1], "refusal": line, "skipped": said.strip().splitlines()[-1], **times}


@row(14, "topic deleted and created again", "refused by topic id", short=True)
def topic_made_anew(bench: Bench) -> Figures:
    """The new topic has more records than the checkpoint knows of, so that no offset is out of range."""
    main = _used(bench)
    known = main.ends()
    settings = main.direct.settings
    topic = settings.kafka.topics.readings
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    admin.delete_topics([topic])
    wait_until(lambda: topic not in admin.list_topics(), 30, poll_s=0.2)
    admin.close()
    main.direct.create_topics()
    main.traffic.close()
    meter = main.traffic.meters[0]
    document = main.traffic.reading(meter, voltage=230.0)
    for partition, end in known.items():
        main.traffic.send_values([(meter, document)] * (end + 5), partition=partition)
    clone = main.copy("new-topic")
    line = clone.refused(code=REFUSED, says=topic)
    bench.forget_shared()
    return {"refusal": line, "old_ends": known}


@row(30, "upgrade: checkpoint and tables of the previous version", "opened, or refused with the way to migrate")
def upgraded(bench: Bench) -> Figures:
    """The previous version itself makes tables and checkpoint, and is killed in the middle of its work: its checkpoint
    is refused, `gridwatch upgrade --yes` goes the way that is named, and everything is right in the end. Then records
    of the run that are older still: one has a generation and nothing else."""
    figures: Figures = {"previous": _from_previous(bench)}
    main = _used(bench)
    for name, change in (("only-generation", _only_generation), ("older-release", _older_release)):
        clone = main.copy(name)
        record = clone.checkpoint / RECORD
        record.write_text(json.dumps(change(json.loads(record.read_text(encoding="utf-8")))), encoding="utf-8")
        for checksum in clone.checkpoint.glob(f".{RECORD}.crc"):
            checksum.unlink()
        clone.traffic.send_polls(3)
        outcome = _refused_or_right(clone)
        if outcome.startswith("ended") and "gridwatch" not in outcome.partition(":")[2]:
            raise NotHeld(f"refused without the way to migrate: {outcome}")
        figures[name] = outcome
        clone.close()
    return figures


def _from_previous(bench: Bench) -> Figures:
    scene = bench.scene("previous")
    topic = f"{scene.place.mark[:8]}-heartbeats"
    admin = KafkaAdminClient(bootstrap_servers=scene.direct.bootstrap_servers)
    admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    admin.close()
    program = previous_version(bench.folder / PREVIOUS)
    settings = {
        "PYTHONPATH": str(program), "GRIDWATCH_KAFKA__TOPICS__HEARTBEATS": topic,
        "GRIDWATCH_PIPELINE__QUIET_TRIGGER": None,
    }  # fmt: skip
    scene.wait_ready(scene.start(more=settings))
    scene.traffic.send_polls(20)
    scene.catch_up(whole=False)  # what judges readings in it the harness does not know
    with scene.traffic.running():
        time.sleep(4)
        scene.kill()
    refusal = scene.refused(code=REFUSED, says="gridwatch upgrade")
    with stopped(scene.place.gridwatch("upgrade", "upgrade", "--yes")) as child:
        said = wait_for_end(child, 120, code=0)
    figures = scene.settle(300)
    scene.close()
    return {"refusal": refusal, "upgrade": said.splitlines()[-1], **figures}


def _only_generation(record: Figures) -> Figures:
    return {"generation": record["generation"]}


def _older_release(record: Figures) -> Figures:
    return {**record, **({"versions": dict.fromkeys(record["versions"], "0.0.1")} if "versions" in record else {})}
