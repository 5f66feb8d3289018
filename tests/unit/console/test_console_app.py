"""What the console answers, and what it refuses: other names, other sites, no token, nonsense. Without Kafka."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from pipelines.console.app import PAGE, build_app
from pipelines.console.board import Board
from pipelines.console.desk import Desk
from pipelines.console.hub import Hub, as_event
from pipelines.console.tables import Tables
from pipelines.settings import Settings
from tests.unit.console_factory import incident_document

TOKEN = "a-token-of-24-characters"
HOME = "http://127.0.0.1:8787"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ACTION = {"actionId": "a-1", "incidentId": "ab", "action": "acknowledge"}


def client(tmp_path: Path, *, token: str | None = TOKEN) -> TestClient:
    """A browser's requests to a console whose threads do not run, with one incident at hand."""
    console = {"token": token} if token else {}
    settings = Settings.model_validate({"console": console, "lake": {"root": str(tmp_path / "lake")}})
    app = build_app(settings)
    board: Board = app.state.desk.board
    board.incidents["ab"] = incident_document("ab")
    return TestClient(app, base_url=HOME, raise_server_exceptions=True)


@pytest.mark.parametrize("host", ["127.0.0.1:8787", "localhost:9999", "LOCALHOST", "[::1]:8787"])
def test_loopback_names_are_answered(tmp_path: Path, host: str) -> None:
    assert client(tmp_path).get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8787", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.1", ""]
)
@pytest.mark.parametrize("path", ["/", "/api/state", "/main.js"])
def test_other_names_are_refused_so_that_no_foreign_site_can_point_its_name_here(
    tmp_path: Path, host: str, path: str
) -> None:
    assert client(tmp_path).get(path, headers={"Host": host}).status_code == 400


def test_a_name_that_is_set_is_answered(tmp_path: Path) -> None:
    settings = Settings.model_validate({"console": {"names": ["grid.example.net"]}})
    asked = TestClient(build_app(settings), base_url="http://grid.example.net:443")
    assert asked.get("/").status_code == 200
    assert asked.get("/", headers={"Host": "127.0.0.1"}).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_site_reads_nothing_and_sends_nothing(tmp_path: Path, headers: dict[str, str]) -> None:
    asked = client(tmp_path)
    assert asked.get("/api/state", headers=headers).status_code == 403
    assert asked.post("/api/actions", json=ACTION, headers={**headers, **BEARER}).status_code == 403


def test_a_link_from_another_site_may_be_followed_to_the_page(tmp_path: Path) -> None:
    assert client(tmp_path).get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_every_answer_says_that_the_page_loads_nothing_from_elsewhere_and_stands_in_no_frame(tmp_path: Path) -> None:
    for path in ("/", "/main.js", "/api/state", "/nowhere"):
        headers = client(tmp_path).get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_the_page_names_no_other_host_and_has_no_inline_script() -> None:
    for file in PAGE.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text
        assert "https:" not in text
        assert "innerHTML" not in text
        assert "//cdn" not in text
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    assert page.count("<script") == page.count('<script type="module" src=') == 1
    assert "style=" not in page
    assert "onclick" not in page


def test_without_a_token_the_console_only_shows(tmp_path: Path) -> None:
    asked = client(tmp_path, token=None)
    answer = asked.post("/api/actions", json=ACTION, headers={"Authorization": "Bearer "})
    assert answer.status_code == 403
    assert "read-only" in answer.json()["error"]
    assert asked.get("/api/state").json()["canWrite"] is False


@pytest.mark.parametrize("sent", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}])
def test_a_wrong_token_is_refused(tmp_path: Path, sent: dict[str, str]) -> None:
    assert client(tmp_path).post("/api/actions", json=ACTION, headers=sent).status_code == 401
    assert client(tmp_path).get("/api/token", headers=sent).status_code == 401


def test_the_right_token_is_recognised(tmp_path: Path) -> None:
    assert client(tmp_path).get("/api/token", headers=BEARER).status_code == 200


def test_the_token_is_in_no_answer(tmp_path: Path) -> None:
    assert TOKEN not in client(tmp_path).get("/api/state", headers=BEARER).text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"incidentId": "zz"}, "no incident"),
        ({"action": "praise"}, "acknowledge, mute or feedback"),
        ({"action": "feedback"}, "verdict"),
        ({"action": "mute"}, "minutes"),
        ({"action": "mute", "minutes": -1}, "minutes"),
        ({"action": "mute", "minutes": True}, "minutes"),
        ({"action": "mute", "minutes": 1e9}, "minutes"),
        ({"actionId": None}, "actionId"),
        ({"actionId": "x" * 65}, "actionId"),
        ({"note": "x" * 501}, "note"),
        ({"scopeId": "m-2"}, "scopeId is no field"),
        ({"at": 1}, "at is no field"),
    ],
)
def test_an_action_that_makes_no_sense_is_refused_by_name(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    answer = client(tmp_path).post("/api/actions", json={**ACTION, **change}, headers=BEARER)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_a_body_that_is_no_small_json_object_is_refused(tmp_path: Path) -> None:
    asked = client(tmp_path)
    kind = {**BEARER, "Content-Type": "application/json"}
    assert asked.post("/api/actions", content=b"[]", headers=kind).status_code == 400
    assert asked.post("/api/actions", content=b"x" * 10_000, headers=kind).status_code == 413
    assert asked.post("/api/actions", data={"action": "acknowledge"}, headers=BEARER).status_code == 415


def test_an_action_is_made_whole_from_what_the_console_knows(tmp_path: Path) -> None:
    asked = client(tmp_path)
    desk: Any = asked.app.state.desk  # type: ignore[attr-defined]
    desk.board.window_end = 1_000_000
    made = desk.document_of({**ACTION, "action": "mute", "minutes": 30, "note": "  a tree ", "operator": "Ada"})
    assert (made["scope"], made["scopeId"], made["note"]) == ("meter", "m-1", "a tree")
    assert made["muteUntil"] - made["muteFrom"] == 30 * 60_000
    assert made["muteFrom"] >= 1_000_000


@pytest.mark.parametrize("feeder", ["feeder 1", "Nord Süd"])
def test_an_incident_of_a_feeder_with_a_name_of_several_words_can_be_handled(tmp_path: Path, feeder: str) -> None:
    asked = client(tmp_path)
    desk: Any = asked.app.state.desk  # type: ignore[attr-defined]
    desk.board.incidents["cd"] = incident_document("cd", scope="feeder", meterId=None, feederId=feeder)
    assert desk.document_of({**ACTION, "incidentId": "cd"})["scopeId"] == feeder


def test_numbers_in_questions_have_bounds(tmp_path: Path) -> None:
    for query in ("minutes=0", "minutes=x", "minutes=nan", "minutes=99999", "until=-1"):
        assert client(tmp_path).get(f"/api/meter?id=m-1&{query}").status_code == 400


def test_a_lake_without_tables_is_a_line_and_no_crash(tmp_path: Path) -> None:
    for path, status, said in (
        ("meters?q=m", 400, "no tables"),
        ("feeders", 503, "table"),
        ("meter?id=m-1", 503, "table"),
    ):
        answer = client(tmp_path).get(f"/api/{path}")
        assert answer.status_code == status
        assert said in answer.json()["error"]


def test_a_store_that_hangs_does_not_keep_an_action_from_being_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def hang(*_: object) -> list[Any]:
        released.wait(30)
        return []

    monkeypatch.setattr(Tables, "search", hang)
    monkeypatch.setattr(Desk, "send", lambda *_: None)
    app = client(tmp_path).app

    async def run() -> tuple[int, set[int]]:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=HOME) as asked:
            questions = [asyncio.create_task(asked.get("/api/meters?q=m")) for _ in range(50)]
            await asyncio.sleep(0.2)
            try:
                async with asyncio.timeout(5):
                    answer = await asked.post("/api/actions", json=ACTION, headers=BEARER)
            finally:
                released.set()
            return answer.status_code, {(await question).status_code for question in questions}

    assert asyncio.run(run()) == (201, {200})


def test_files_outside_the_page_are_not_served(tmp_path: Path) -> None:
    for path in ("/../app.py", "/%2e%2e/app.py", "/..%2fapp.py"):
        assert client(tmp_path).get(path).status_code == 404


def test_a_page_that_does_not_read_is_let_go_and_the_others_are_served() -> None:
    async def run() -> tuple[int, list[bytes]]:
        hub = Hub(most=2)
        slow, quick = hub.listen(b"first"), hub.listen(b"first")
        await anext(slow)
        await anext(quick)
        assert hub.is_full
        got = []
        for number in range(600):
            hub.publish("n", number)
            got.append(await anext(quick))
        left = [event async for event in slow]
        return len(left), got

    left, got = asyncio.run(run())
    assert left == 0
    assert got[-1] == as_event("n", 599)
