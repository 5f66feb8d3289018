"""A member of the alerts as a process: waits for its parts, judges, and begins again after a failure."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pipelines.alerts.client import SESSION_S, host_member
from pipelines.alerts.group import Group
from pipelines.alerts.member import Member, NobodyHas
from pipelines.alerts.reference import Reference
from pipelines.client_errors import as_ours
from pipelines.errors import DataRefused, GridwatchError, InfrastructureUnavailable, MemberFenced, SettingsError
from pipelines.observe.metrics import AlertsMetrics
from pipelines.observe.serve import served
from pipelines.restarts import Restarts
from pipelines.settings import Settings
from pipelines.small_tables import table_is_there, wait_for_lake
from pipelines.tables import AUDIT, BASELINES, METERS
from pipelines.topics import check_topics, wait_for_kafka

Say = Callable[[str], None]

_SWITCH_S = 0.001
"""Python lets the judging thread run again after so long, whatever another thread of ours computes."""
_COLLECT = (50_000, 20, 50)
"""Objects made before Python looks for cycles: a call has 10,000 records, none of which is in one."""
_LOOK_EVERY_S = 1.0


def run_alerts(
    settings: Settings, say: Say, ending: threading.Event, *, name: str | None = None, max_restarts: int | None = None
) -> None:
    """Judge readings as a member of the group until `ending` is set.

    After a failure it begins again at what is committed, with pauses, `alerts.max_restarts` times in a row. Raises
    the last failure then; at once SettingsError and DataRefused; MemberFenced when another process has taken the
    name over, which shows after the session's time. `name`: that of the member, else one of this host.
    """
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(*_COLLECT)
    with as_ours(settings):
        wait_for_kafka(settings.kafka, say)
        check_topics(settings)
        wait_for_lake(settings, say)
        if not _wait_for_tables(settings, say, ending):
            return
        group = Group(settings)
        metrics = AlertsMetrics()
        reference = Reference(settings, metrics, say)  # once: a store that is away later keeps nobody from going on
    gc.freeze()  # modules, settings and bounds live as long as the process
    restarts = Restarts(settings.alerts.max_restarts if max_restarts is None else max_restarts)
    _end_in_order(ending)
    with group, ExitStack() as stack:
        mine = name or stack.enter_context(host_member(group.name))
        stack.enter_context(_metered(settings, metrics, say))
        while not ending.is_set():
            restarts.began()
            try:
                with as_ours(settings):
                    Member(settings, group, mine, reference, metrics, say, ending).run()
            except (SettingsError, DataRefused):
                raise
            except MemberFenced as problem:
                if _is_taken_over(group, mine, ending):
                    raise
                say(f"alerts: the brokers had lost track of member {mine}; it joins again ({problem})")
            except NobodyHas as problem:
                say(f"alerts: {problem}")
                # After that the brokers have forgotten the member, and share out all partitions again.
                ending.wait(SESSION_S + 1)
            except GridwatchError as problem:
                metrics.up.set(0)
                pause_s = restarts.pause_s()
                if pause_s is None:
                    raise
                metrics.restarts.labels("alerts").inc()
                say(f"alerts: {problem}; restart {restarts.in_a_row} of {restarts.most} in {pause_s:g} s")
                ending.wait(pause_s)


def _is_taken_over(group: Group, name: str, ending: threading.Event) -> bool:
    """Whether another process has the name of a member that was fenced.

    When a broker dies amid a join, its successor may know an earlier membership only and fence the one that lives.
    Nobody speaks for the earlier one any more: it is gone after the session's time, another process is not. (Kafka
    keeps the client.id of a name's first holder, so it tells nothing about the newest.)
    """
    ending.wait(SESSION_S + 1)
    try:
        return group.has_member(name)
    except InfrastructureUnavailable:  # nobody can say: the next join will
        return False


def _end_in_order(ending: threading.Event) -> None:
    """From here on a signal is only noted; before, it ends a process that still waits for its parts."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: ending.set())


def _wait_for_tables(settings: Settings, say: Say, ending: threading.Event) -> bool:
    """Whether the tables are there before the end is asked for; the first start of a pipeline makes them."""
    is_told = False
    while not all(table_is_there(settings, table) for table in (AUDIT, METERS, BASELINES)):
        if not is_told:
            say(f"waiting for the tables of {settings.lake.root}: the first start of `gridwatch run` makes them")
            is_told = True
        if ending.wait(_LOOK_EVERY_S):
            return False
    return True


@contextmanager
def _metered(settings: Settings, metrics: AlertsMetrics, say: Say) -> Iterator[None]:
    """Metrics, served from here to the end of the block."""
    try:
        with served(metrics.registry, settings.metrics.host, settings.metrics.alerts_port, say):
            yield
    finally:
        metrics.up.set(0)
