"""Rows 16 and 20 to 24: what comes in is broken, huge, early, late, or much."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from pathlib import Path

from kafka import KafkaAdminClient

from generator.malformed import FUTURE, VARIANTS, expected_reason, make_malformed
from pipelines.local.ports import free_ports
from pipelines.local.processes import wait_until
from tests.faults.bench import Bench
from tests.faults.expect import bring_about, require
from tests.faults.matrix import Figures, row
from tests.faults.scene import Scene
from tests.faults.tables import fates
from tests.faults.traffic import LATE_BY_MS, MALFORMED, NORMAL, ODD, SPIKE, SPIKE_V, Sent
from tests.fuzz.documents import make_documents
from tests.fuzz.examples import ACCEPTED, REJECTED

DAY_MS = 86_400_000
_ALMOST_A_MIB = 1_048_000
_LETTER_BYTES = 65_536
IDLE_POLLS = 150
"""With 20 meters twice as many records as one batch takes."""
_HEAP = "640m"


def _add_partition(scene: Scene) -> int:
    """One more, whose number is returned; the traffic may send to it at once."""
    settings, new = scene.direct.settings, len(scene.ends())
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    admin.create_partitions({settings.kafka.topics.readings: new + 1})
    admin.close()
    bring_about(wait_until(lambda: new in scene.ends(), 30, poll_s=0.1), f"no partition {new}")
    scene.traffic.close()  # the next producer asks for the partitions; this one would only in a while
    return new


def _outcomes(scene: Scene, sent: list[Sent]) -> list[str | None]:
    told = dict(fates(scene.direct))
    return [told[one.partition, one.offset].reason for one in sent]


@row(16, "partitions added", "read from their start; alerts read them within 20 s")
def partitions_added(bench: Bench) -> Figures:
    """The new partition holds records before the running pipeline knows of it. The alerts: tests/integration."""
    scene = bench.main
    scene.running()
    new = _add_partition(scene)
    meter = scene.traffic.meters[0]
    values = [(meter, scene.traffic.reading(meter, voltage=230.0)) for _ in range(50)]
    sent = scene.traffic.send_values(values, kind=NORMAL, partition=new)
    scene.traffic.send_polls(10)
    figures = scene.settle()
    require(min(one.offset for one in sent) == 0, "the new partition was not empty")
    return {"partitions": new + 1, "in_the_new_one": len(sent), **figures}


@row(20, "every malformed kind, and fuzzed inputs", "no crash, one outcome each, the right reason", short=True)
def malformed(bench: Bench) -> Figures:
    """All kinds of the generator and of the decoder's tests, then fuzzed ones (a million: `python -m tests.fuzz`)."""
    scene = bench.main
    scene.running()
    good = scene.traffic.reading(scene.traffic.meters[0], voltage=230.0)
    sent: list[tuple[Sent, str | None]] = []
    for variant in VARIANTS:
        base = json.loads(good) | ({"timestamp": int(time.time() * 1000) + DAY_MS} if variant == FUTURE else {})
        value = make_malformed(variant, json.dumps(base).encode())
        reason = expected_reason(variant)
        sent += [(one, reason) for one in scene.traffic.send_values([("m", value)], kind=MALFORMED, variant=variant)]
    # Those that turn on the clock of the broker say something else here: their noon is months ago.
    timed = ("future_timestamp", "too_old")
    examples = [(value, reason) for _, value, reason in REJECTED if reason not in timed]
    taken = scene.traffic.send_values([("m", value) for value, _ in examples])
    sent += zip(taken, (reason for _, reason in examples), strict=True)
    valid = scene.traffic.send_values([("m", value) for _, value, *_ in ACCEPTED])
    count = 2_000 if bench.short else 20_000
    fuzzed = scene.traffic.send_values([("m", value) for value in make_documents(bench.seed, count)])
    figures = scene.settle(300)
    got = _outcomes(scene, [one for one, _ in sent])
    wrong = [(one.value, reason, found) for (one, reason), found in zip(sent, got, strict=True) if reason != found]
    require(not wrong, f"{len(wrong)} with another reason, such as {wrong[:2]}")
    rejected = sum(reason is not None for reason in _outcomes(scene, fuzzed))
    return {"kinds": len(sent), "valid": len(valid), "fuzzed": len(fuzzed), "fuzzed_rejected": rejected, **figures}


@row(21, "far-future and ancient clocks, a clock jump of +-1 h", "watermark unmoved, counted", short=True)
def clocks(bench: Bench) -> Figures:
    """Against the broker's clock; a jump back is late, all the rest is rejected by name."""
    scene = bench.main
    traffic, meter = scene.traffic, scene.traffic.meters[1]
    traffic.send_polls(20)
    scene.catch_up()
    highest = scene._ask_one("SELECT epoch_ms(max(event_ts)) FROM readings")
    now = int(time.time() * 1000)
    ahead = {"year 2500": 16_725_225_600_000, "a day ahead": now + DAY_MS, "an hour ahead": now + 3_600_000}
    behind = {"1970": 0, "1999": 922_881_600_000}
    values = [
        (meter, traffic.reading(meter, voltage=230.0, timestamp=at)) for at in (*ahead.values(), *behind.values())
    ]
    sent = traffic.send_values(values)
    back = traffic.send_values([(meter, traffic.reading(meter, voltage=230.0, timestamp=highest - 3_600_000))])
    scene.catch_up()
    reasons = _outcomes(scene, sent)
    require(reasons == ["future_timestamp"] * 3 + ["too_old"] * 2, f"outcomes {reasons}")
    told = dict(fates(scene.direct))
    require(bool(told[back[0].partition, back[0].offset].is_late), "a reading of an hour ago is not late")
    after = scene._ask_one("SELECT epoch_ms(max(event_ts)) FROM readings")
    require(after == highest, f"the largest event time moved by {after - highest} ms")
    traffic.send_polls(20)
    figures = scene.settle()
    told = dict(fates(scene.direct))
    late = [s for s in traffic.acked if s.kind in (NORMAL, SPIKE) and told[s.partition, s.offset].is_late]
    require(not late, f"{len(late)} on-time readings became late, such as {late[:1]}")
    return {"rejected_ahead": 3, "rejected_behind": 2, "late_after_jump_back": 1, **figures}


@row(22, "a value at the broker's size limit", "truncated into the dead-letter queue, the query lives")
def huge(bench: Bench) -> Figures:
    """One that is no JSON, one that is valid and carries a field of a megabyte."""
    scene = bench.main
    child = scene.running()
    meter = scene.traffic.meters[0]
    text = json.loads(scene.traffic.reading(meter, voltage=SPIKE_V)) | {"note": ""}
    note = "n" * (_ALMOST_A_MIB - len(json.dumps(text)) - 10)
    broken, valid = scene.traffic.send_values(
        [(meter, b"{" + b"x" * _ALMOST_A_MIB), (meter, json.dumps({**text, "note": note}).encode())]
    )
    figures = scene.settle()
    require(child.is_running(), f"the pipeline ended: {last_words_of(scene)}")
    where = f"kafka_partition = {broken.partition} AND kafka_offset = {broken.offset}"
    kept = scene._ask_one(f"SELECT octet_length(value) FROM rejected WHERE {where}")
    letters = scene._log(scene.direct.settings.kafka.topics.dead_letters).extend().values()
    cut = [len(r.value or b"") for r in letters if dict(r.headers)["origin-offset"] == str(broken.offset).encode()
           and dict(r.headers)["origin-partition"] == str(broken.partition).encode()]  # fmt: skip
    require(kept == len(broken.value or b""), f"the table kept {kept} bytes")
    require(bool(cut) and set(cut) == {_LETTER_BYTES}, f"dead letters of {cut} bytes")
    return {
        "sent_bytes": len(broken.value or b""),
        "valid_bytes": len(valid.value or b""),
        "letter_bytes": cut[0],
        **figures,
    }


def last_words_of(scene: Scene) -> str:
    """End of the log of the pipeline."""
    return scene._state()


@row(23, "late burst, idle partition, unequal catch-up", "counted; no on-time reading late or dropped")
def uneven(bench: Bench) -> Figures:
    """While it is down: 200 late readings at once, partitions that get nothing for most of more than a batch, and a new
    one with garbage only. It catches up through two kills, each time with another limit of a batch."""
    scene = bench.main
    traffic = scene.traffic
    traffic.send_polls(20)
    scene.catch_up()
    scene.stop()
    new = _add_partition(scene)
    traffic.send_values([("m", b"{")] * 500, partition=new)
    meter = traffic.meters[0]
    late = [
        (meter, traffic.reading(meter, voltage=230.0, timestamp=traffic.now_ms - LATE_BY_MS * 2 - n))
        for n in range(200)
    ]
    traffic.send_values(late, kind=ODD)
    for _ in range(IDLE_POLLS):
        values = [(m, traffic.reading(m, voltage=230.0)) for m in traffic.meters]
        traffic.send_values(values, kind=NORMAL, partition=0)
        traffic._now_ms += 10_000
    traffic.send_polls(IDLE_POLLS, per_second=1e9)
    for limit in (700, 1500):
        scene.wait_ready(scene.start(more={"GRIDWATCH_PIPELINE__MAX_OFFSETS_PER_TRIGGER": str(limit)}))
        _wait_for_batches(scene, 2)
        scene.kill()
    port = free_ports(1)[0]
    scene.wait_ready(scene.start(more={"GRIDWATCH_METRICS__PORT": str(port)}))
    figures = scene.settle(300)
    require(_dropped_by_spark(port) == 0, "Spark itself dropped rows")
    told = dict(fates(scene.direct))
    dropped = [s for s in traffic.acked if s.kind in (NORMAL, SPIKE) and told[s.partition, s.offset].is_late]
    require(not dropped, f"{len(dropped)} on-time readings were flagged late, such as {dropped[:1]}")
    require(figures["late"] >= 200, f"only {figures['late']} counted late")
    return figures


def _wait_for_batches(scene: Scene, count: int) -> None:
    """Return when the archive has done so many batches more."""
    before = scene.audited()
    require(
        wait_until(lambda: scene.audited() >= before + count, 120, poll_s=0.1),
        f"no {count} batches within 120 s: {last_words_of(scene)}",
    )


def _dropped_by_spark(port: int) -> float:
    """Rows that this life's windows query has dropped behind its watermark."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2]) for line in lines if line.startswith("gridwatch_state_dropped_rows_total")
    )


@row(24, "ten times the backlog after downtime", "bounded memory, steady catch-up")
def backlog(bench: Bench) -> Figures:
    """The same records twice as a backlog: one tenth, then ten tenths, each until all queries are through.

    The heap has little to spare: in a larger one, what Java has not collected yet would look like growth.
    """
    scene = bench.main
    traffic = scene.traffic
    scene.catch_up()
    figures: Figures = {}
    for name, polls in (("one", 100), ("ten", 1000)):
        scene.stop()
        records = len(traffic.acked)
        traffic.send_polls(polls, per_second=1e9)
        records = len(traffic.acked) - records
        child = scene.start(more={"GRIDWATCH_PIPELINE__DRIVER_MEMORY": _HEAP})
        scene.wait_ready(child)
        with Memory(child.pid) as memory:
            caught_up = scene.catch_up(600)
        took = caught_up["caught_up_s"]
        figures[name] = {
            "records": records, "seconds": round(took, 1), "records_per_s": round(records / max(took, 0.1)),
            "peak_mb": memory.peak_mb,
        }  # fmt: skip
        require(caught_up["restarts"] == 0, f"ended and was started again with a heap of {_HEAP}: {figures}")
    figures |= scene.settle(600)
    require(figures["ten"]["peak_mb"] < 1.25 * figures["one"]["peak_mb"] + 200, f"memory grew: {figures}")
    return figures


class Memory:
    """Largest resident memory of a process group while the block lasts, in MB."""

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.5):
            self.peak_mb = max(self.peak_mb, group_mb(self._pid))


def group_mb(pgid: int) -> int:
    """Resident memory of all processes of a group."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == pgid:
                total += int(fields[21])
        except (OSError, ValueError, IndexError):
            continue
    return total * 4096 // 2**20
