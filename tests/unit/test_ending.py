"""A signal is noted while queries run and interrupts otherwise; Java is spared; a failure has the class that fits."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from pipelines.errors import DataRefused, GridwatchError, InfrastructureUnavailable
from pipelines.jobs.ending import Ending, SparedJvm
from pipelines.jobs.failures import OutOfMemory, explain_failure


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted_while_queries_run_and_the_second_interrupts(number: signal.Signals) -> None:
    ending = Ending()
    ending.listen()
    ending.in_order = True
    send(number)
    assert ending.asked.is_set()
    with pytest.raises(KeyboardInterrupt):
        send(number)


def test_a_signal_at_any_other_time_interrupts() -> None:
    ending = Ending()
    ending.listen()
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGTERM)
    assert not ending.asked.is_set()


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """As PySpark starts its JVM: with a preexec_fn."""
    return subprocess.Popen(command, preexec_fn=lambda: None)


def test_a_process_started_within_the_block_is_deaf_to_sigterm_and_a_later_one_is_not() -> None:
    with SparedJvm():
        spared = start(["sleep", "30"])
    other = start(["sleep", "30"])
    try:
        for process in (spared, other):
            process.terminate()
        assert other.wait(5) == -signal.SIGTERM
        with pytest.raises(subprocess.TimeoutExpired):
            spared.wait(0.5)
    finally:
        spared.kill()
        spared.wait()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("x\nCaused by: java.lang.IllegalStateException: Some data may have been lost: KAFKA_DATA_LOSS", DataRefused),
        ("[STATE_STORE_VALUE_SCHEMA_NOT_COMPATIBLE] Provided value schema", DataRefused),
        ("[STREAMING_STATEFUL_OPERATOR_NOT_MATCH_IN_STATE_METADATA] Streaming stateful operator", DataRefused),
        ("Caused by: org.apache.kafka.common.errors.TimeoutException: Topic x not present", InfrastructureUnavailable),
        ("deltalake: Generic S3 error: error sending request for url", InfrastructureUnavailable),
        ("_internal.DeltaError: The operation lacked the necessary privileges to complete", InfrastructureUnavailable),
        ("Caused by: java.nio.file.AccessDeniedException: s3a://b/lake", InfrastructureUnavailable),
        ("Caused by: org.apache.kafka.common.errors.TopicAuthorizationException: x", InfrastructureUnavailable),
        ("x\nCaused by: java.lang.OutOfMemoryError: Java heap space", OutOfMemory),
        ("Caused by: java.lang.ArithmeticException: / by zero", GridwatchError),
        (
            "[CANNOT_LOAD_STATE_STORE.UNCATEGORIZED] x\nCaused by: ConnectException: y",
            InfrastructureUnavailable,
        ),
        ("[CANNOT_LOAD_STATE_STORE.UNCATEGORIZED] x\nCaused by: y: No space left on device", InfrastructureUnavailable),
        ("[CANNOT_LOAD_STATE_STORE.UNCATEGORIZED] x\nCaused by: java.io.FileNotFoundException: y", DataRefused),
    ],
)
def test_a_failure_inside_spark_has_the_class_that_fits(text: str, kind: type[GridwatchError]) -> None:
    problem = explain_failure(text, "query archive")
    assert type(problem) is kind
    assert "\n" not in str(problem)


def test_a_state_that_does_not_fit_names_the_way_out() -> None:
    line = str(explain_failure("[STATE_STORE_KEY_SCHEMA_NOT_COMPATIBLE] key schema", "query windows"))
    assert "`gridwatch checkpoint new-generation --from-offsets tables`" in line


def test_a_password_in_a_cause_is_masked() -> None:
    text = 'Caused by: bad config: ScramLoginModule required username="u" password="canary-7";'
    assert "canary-7" not in str(explain_failure(text, "query archive"))


def test_the_cause_of_a_failure_in_our_own_python_is_its_last_line() -> None:
    text = (
        "[FOREACH_BATCH_USER_FUNCTION_ERROR] An error occurred: Traceback (most recent call last):\n"
        '  File "call.py", line 1\n    raise ValueError\n\n'
        "ValueError: password=canary-7 is wrong\n\n\tat py4j.Protocol\n"
        "Caused by: py4j.Py4JException: An exception was raised: Traceback (most recent call last):\n"
        '  File "call.py", line 1\nValueError: password=canary-7 is wrong\n\n\tat py4j.Protocol'
    )
    line = str(explain_failure(text, "query archive"))
    assert line == "query archive stopped: ValueError: password=******** is wrong"
