"""The proxies do what they are told, to real sockets."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines.local.ports import LOOPBACK, free_ports
from tests.faults.kafka_proxy import PRODUCE, KafkaProxy
from tests.faults.rows_batches import commit_of
from tests.faults.rows_store_checkpoint import once_a_log
from tests.faults.store_proxy import StoreProxy

FETCH = 1


def frame(key: int, correlation: int) -> bytes:
    body = struct.pack(">hhi", key, 9, correlation) + b"rest"
    return struct.pack(">i", len(body)) + body


@pytest.fixture
def kafka() -> Iterator[tuple[KafkaProxy, list[bytes]]]:
    """A proxy before a server that answers each frame with its correlation id, and what came to the server."""
    port, behind = free_ports(2)
    seen: list[bytes] = []
    server = socket.create_server((LOOPBACK, behind))

    def serve(client: socket.socket) -> None:
        while request := client.recv(4096):
            seen.append(request)
            client.sendall(struct.pack(">i", 8) + request[8:12] + b"done")

    def accept() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with KafkaProxy(port, behind) as proxy:
        yield proxy, seen
    server.close()


def ask(connection: socket.socket, key: int, correlation: int) -> bytes:
    connection.sendall(frame(key, correlation))
    connection.settimeout(0.5)
    try:
        return connection.recv(4096)
    except TimeoutError:
        return b"silence"


def test_frames_pass_unchanged(kafka: tuple[KafkaProxy, list[bytes]]) -> None:
    proxy, seen = kafka
    with socket.create_connection((LOOPBACK, proxy.port)) as connection:
        assert ask(connection, PRODUCE, 7) == struct.pack(">ii", 8, 7) + b"done"
    assert seen == [frame(PRODUCE, 7)]


def test_held_requests_never_arrive_and_others_do(kafka: tuple[KafkaProxy, list[bytes]]) -> None:
    proxy, seen = kafka
    proxy.faults.hold_requests = frozenset({PRODUCE})
    with socket.create_connection((LOOPBACK, proxy.port)) as connection:
        assert ask(connection, PRODUCE, 1) == b"silence"
        assert ask(connection, FETCH, 2).endswith(b"done")
    assert seen == [frame(FETCH, 2)]
    assert proxy.passed.held == {PRODUCE: 1}


def test_lost_replies_were_done(kafka: tuple[KafkaProxy, list[bytes]]) -> None:
    proxy, seen = kafka
    proxy.faults.lose_replies = frozenset({PRODUCE})
    with socket.create_connection((LOOPBACK, proxy.port)) as connection:
        assert ask(connection, PRODUCE, 1) == b"silence"
        assert seen == [frame(PRODUCE, 1)]
        proxy.heal()
        assert connection.recv(10) == b"", "clients begin anew after a heal"


def test_refusing_ends_open_connections_and_new_ones(kafka: tuple[KafkaProxy, list[bytes]]) -> None:
    proxy, _ = kafka
    with socket.create_connection((LOOPBACK, proxy.port)) as connection:
        assert ask(connection, FETCH, 1).endswith(b"done")
        proxy.refuse()
        assert connection.recv(10) == b""
    with socket.create_connection((LOOPBACK, proxy.port)) as connection:
        assert connection.recv(10) == b""


@pytest.fixture
def store() -> Iterator[tuple[StoreProxy, list[tuple[str, str, bytes]]]]:
    """A proxy before a small HTTP server, and the requests that came to it."""
    seen: list[tuple[str, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, self.headers["Host"], body))
            self.send_response(200)
            self.send_header("ETag", '"x"')
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            """Silent."""

    port, behind = free_ports(2)
    server = ThreadingHTTPServer((LOOPBACK, behind), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with StoreProxy(port, behind, lambda: 0.5) as proxy:
        yield proxy, seen
    server.shutdown()


def put(proxy: StoreProxy, path: str, *, chunked: bool = False) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, proxy.port, timeout=5)
    body: bytes | list[bytes] = [b"r", b"ow"] if chunked else b"row"
    try:
        connection.request("PUT", path, body=body, headers={"Host": "bucket.example"}, encode_chunked=chunked)
        answer = connection.getresponse()
        return answer.status, answer.getheader("ETag"), answer.read()
    finally:
        connection.close()


def test_requests_pass_with_their_host_and_body(store: tuple[StoreProxy, list[tuple[str, str, bytes]]]) -> None:
    proxy, seen = store
    assert put(proxy, "/b/k?x=1") == (200, '"x"', b"ok")
    assert seen == [("/b/k?x=1", "bucket.example", b"row")]


def test_a_body_in_chunks_passes_whole_and_the_connection_goes_on(
    store: tuple[StoreProxy, list[tuple[str, str, bytes]]],
) -> None:
    proxy, seen = store
    assert put(proxy, "/b/k", chunked=True) == (200, '"x"', b"ok")
    assert seen == [("/b/k", "bucket.example", b"row")]


def test_a_lost_reply_was_done(store: tuple[StoreProxy, list[tuple[str, str, bytes]]]) -> None:
    proxy, seen = store
    proxy.faults.lose_reply_to = lambda method, path: path == "/commit"
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        put(proxy, "/commit")
    assert [path for path, _, _ in seen] == ["/commit"]
    assert put(proxy, "/other")[0] == 200


def test_a_held_reply_was_done_and_never_comes(store: tuple[StoreProxy, list[tuple[str, str, bytes]]]) -> None:
    proxy, seen = store
    proxy.faults.hold_reply_to = lambda method, path: path == "/commit"
    ended: list[Exception] = []

    def write() -> None:
        try:
            put(proxy, "/commit")
        except (http.client.HTTPException, ConnectionError) as error:
            ended.append(error)

    client = threading.Thread(target=write)
    client.start()
    client.join(0.5)
    assert [path for path, _, _ in seen] == ["/commit"]
    assert (client.is_alive(), proxy.answered.held) == (True, ["PUT /commit"])
    assert put(proxy, "/other")[0] == 200
    proxy.heal()
    client.join(5)
    assert len(ended) == 1


def test_busy_denied_and_full_are_not_done(store: tuple[StoreProxy, list[tuple[str, str, bytes]]]) -> None:
    proxy, seen = store
    proxy.faults.busy_share = 0.6
    assert put(proxy, "/a")[0] == 503
    proxy.heal()
    proxy.faults.deny = lambda method, path: method == "PUT"
    assert put(proxy, "/a")[0] == 403
    proxy.heal()
    proxy.faults.full = True
    assert put(proxy, "/a")[0] == 507
    proxy.heal()
    proxy.faults.refuse = True
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        put(proxy, "/a")
    assert seen == []


def test_only_what_is_named_is_busy(store: tuple[StoreProxy, list[tuple[str, str, bytes]]]) -> None:
    proxy, _ = store
    proxy.faults.busy_share = 1.0
    proxy.faults.busy_for = lambda method, path: path.startswith("/checkpoint")
    assert [put(proxy, path)[0] for path in ("/checkpoint/offsets/1", "/lake/part-0")] == [503, 200]


def test_the_files_of_a_checkpoint_in_the_store_are_told_apart() -> None:
    """What row 34 loses replies to: the batch's own file, once in each log, and nothing of the tables."""
    place, lost = "/gridwatch/checkpoint-34", set[str]()
    requests = [
        ("PUT", f"{place}/archive/offsets/.7.4f.tmp"), ("GET", f"{place}/archive/offsets/7"),
        ("PUT", "/gridwatch/lake-34/offsets/7"), ("PUT", f"{place}/archive/state/7"),
        ("PUT", f"{place}/archive/offsets/7"), ("PUT", f"{place}/archive/offsets/8"),
        ("PUT", f"{place}/windows/commits/3?x-id=CopyObject"),
    ]  # fmt: skip
    assert [once_a_log(lost, *request) for request in requests] == [False, False, False, False, True, False, True]
    assert lost == {"archive/offsets", "windows/commits"}


@pytest.mark.parametrize(
    ("method", "path", "commits"),
    [
        ("PUT", "/gridwatch/checkpoint-33/plans/7.json", "plan"),
        ("PUT", "/gridwatch/checkpoint-33/generation-2/plans/7.json", "plan"),
        ("GET", "/gridwatch/checkpoint-33/plans/7.json", None),
        ("PUT", "/gridwatch/checkpoint-33/gridwatch-run.json", None),
        ("PUT", "/gridwatch/lake-33/audit/_delta_log/00000000000000000007.json", "audit"),
        ("PUT", "/gridwatch/lake-33/readings/event_date=2026-03-02/part.parquet", None),
    ],
)
def test_the_commits_of_a_batch_are_told_apart(method: str, path: str, commits: str | None) -> None:
    """What row 33 holds the reply to."""
    assert commit_of(method, path) == commits
