"""The console's page in a real Chromium, fed by a real broker and real tables."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from pipelines.console.serve import READY
from pipelines.local.broker import RunningBroker, start_broker
from pipelines.local.processes import Child
from tests.integration.browsing import Browser, browser, needs_chromium
from tests.integration.small_grid import SICK, anomaly, incident, send, write_lake
from tests.integration.support import Place, records_of, stopped, text_of, wait_for_text

pytestmark = [pytest.mark.console, needs_chromium]

TOKEN = "a-token-of-24-characters"
VIEWS = ("incidents", "feeders", "feeders/f-1", f"meter/{SICK}", "pipeline")
LIMIT_MS = 250
"""From the broker's append to the page, p99."""

_FOCUS = """
const e = document.activeElement;
return [e === document.body ? "body" : e.id, getComputedStyle(e).outlineStyle, e.outerHTML.slice(0, 200)];
"""
_ATTACK = """
const [url, token, done] = arguments;
const body = JSON.stringify({actionId: "x", incidentId: "aa01", action: "acknowledge"});
const json = {"Content-Type": "application/json", Authorization: "Bearer " + token};
const attempts = [
  ["api/state", {}],
  ["api/actions", {method: "POST", body, headers: json}],
  ["api/actions", {method: "POST", body, mode: "no-cors", headers: {"Content-Type": "text/plain"}}],
];
const attempt = ([path, options]) => fetch(url + path, options).then((r) => "status " + r.status, () => "refused");
Promise.all(attempts.map(attempt)).then(done);
"""
"""What a page of another origin can try: to read, to act with a stolen token, to send without looking."""


@dataclass(frozen=True)
class Served:
    """A running console."""

    place: Place
    child: Child
    url: str

    def actions(self) -> list[dict[str, Any]]:
        """What the topic of the operators' actions holds."""
        topic = self.place.settings.kafka.topics.actions
        return [json.loads(record.value) for record in records_of(self.place.settings, topic)]


def serve(place: Place, name: str = "console", token: str | None = TOKEN) -> Iterator[Served]:
    """A console at a free port."""
    more = {"GRIDWATCH_CONSOLE__PORT": "0"} | ({"GRIDWATCH_CONSOLE__TOKEN": token} if token else {})
    with stopped(place.start(name, sys.executable, "-m", "pipelines", "console", more=more)) as child:
        wait_for_text(child, READY, 30)
        line = next(line for line in text_of(child.log).splitlines() if READY in line)
        yield Served(place, child, line.rpartition(" ")[2])


@pytest.fixture(scope="module")
def served(kafka: RunningBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A console over six meters, two incidents of a meter and one of its feeder."""
    place = Place(tmp_path_factory.mktemp("console"), kafka.bootstrap_servers)
    place.create_topics()
    write_lake(place.settings)
    settings, topic = place.settings, place.settings.kafka.topics.incidents
    rows = [
        incident("aa01", severity="CRITICAL", scope="feeder", meterId=None, family="feeder-supply",
                 kind="feeder_undervoltage", message="Feeder f-1: 3 of 3 meters are low."),
        incident("bb02", parentId="aa01"),
        incident("cc03", severity="ERROR", family="health", kind="stuck_sensor", meterId="m-5", feederId="f-2",
                 message="<img src=x onerror=\"document.title='owned'\"> & <b>bold</b>"),
    ]  # fmt: skip
    send(settings, topic, *rows)
    send(settings, settings.kafka.topics.anomalies, *(anomaly(f"old-{n}") for n in range(3)), key="anomalyId")
    yield from serve(place)


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    """One browser for all tests."""
    with browser() as found:
        yield found


@pytest.fixture
def page(served: Served, window: Browser) -> Browser:
    """The incidents, freshly opened and signed out."""
    window.size(1440)
    window.prefer("light")
    window.open(served.url)
    window.script("sessionStorage.clear(); localStorage.clear()")
    window.open(served.url)
    window.wait_for(lambda: window.count("#list [role=option]") >= 2, "the incidents are there")
    window.complaints()
    return window


def sign_in(page: Browser, token: str = TOKEN) -> None:
    """Through the dialog, by keyboard."""
    page.click("#sign")
    page.keys(token, Keys.ENTER)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 1024, 380])
def test_every_view_is_readable_fits_and_raises_no_complaint(
    served: Served, page: Browser, theme: str, width: int
) -> None:
    page.prefer(theme)
    page.size(width)
    for view in VIEWS:
        page.open(served.url, view)
        page.wait_for(lambda: "reading the tables" not in page.text("main"), f"{view} is filled")
        time.sleep(0.3)
        assert not page.overflows(), f"{view} at {width}"
        assert page.unreadable() == [], f"{view} in {theme}"
        if folder := os.environ.get("GRIDWATCH_TEST_SHOTS"):
            page.driver.save_screenshot(f"{folder}/{view.replace('/', '-')}-{theme}-{width}.png")
    assert page.complaints() == []


def test_a_hash_that_is_no_encoding_is_taken_as_it_stands(served: Served, page: Browser) -> None:
    for view in ("meter/%", "feeders/50%-line"):
        page.open(served.url, view)
        page.wait_for(lambda: page.text("main"), f"{view} is drawn")
        assert page.script("return document.title") == f"{view.partition('/')[0]} · gridwatch"
    assert not [line for line in page.complaints() if "URIError" in line]


def test_the_list_shows_the_worst_first_and_what_a_feeder_explains_below_it(page: Browser) -> None:
    assert page.text("#list [role=option] .badge") == "CRITICAL"
    assert "explains 1" in page.text("#list")
    assert SICK not in page.text("#list")
    detail = page.text(".detail")
    assert "opened as CRITICAL" in detail
    assert "Explains 1 incidents" in detail
    assert "The cause is upstream" in detail


def test_what_stands_in_the_data_is_text_and_never_markup(page: Browser) -> None:
    page.wait_for(lambda: "<img src=x" in page.text("#list"), "the message is shown as it is")
    assert page.count("main img") == 0
    assert page.script("return document.title") != "owned"


def test_an_incident_changes_closes_and_vanishes_before_the_eyes(served: Served, page: Browser) -> None:
    settings = served.place.settings
    topic = settings.kafka.topics.incidents
    send(settings, topic, incident("dd04", meterId="m-6", feederId="f-2"))
    page.wait_for(lambda: "m-6" in page.text("#list"), "a new incident is shown")
    send(settings, topic, incident("dd04", meterId="m-6", feederId="f-2", severity="CRITICAL"))
    page.wait_for(lambda: "CRITICAL" in page.text("#i-dd04"), "it got worse")
    send(
        settings,
        topic,
        incident("dd04", meterId="m-6", feederId="f-2", status="closed", closedAt=incident("x")["lastAnomalyAt"]),
    )
    page.wait_for(lambda: page.count("#i-dd04") == 0, "it is closed, and only open ones are shown")


def test_findings_are_on_the_page_within_250_ms(served: Served, page: Browser) -> None:
    """Of up to three rounds one must do: a stall of the machine of 300 ms meets 6 % of a round."""
    for number in range(3):
        p99 = send_and_time(served, page, f"live-{time.time_ns()}", number)
        if p99 <= LIMIT_MS:
            break
    assert p99 <= LIMIT_MS


def send_and_time(served: Served, page: Browser, name: str, number: int) -> float:
    """1,000 findings at about 200 a second: p99 in ms from the broker's time of each to the page drawn with it."""
    settings = served.place.settings
    before = page.script("return window.gridwatch.state.arrived")
    page.script("window.gridwatch.delays.length = 0")
    found = (anomaly(f"{name}-{n}") for n in range(1000))
    send(settings, settings.kafka.topics.anomalies, *found, key="anomalyId", pause_s=0.004)
    page.wait_for(lambda: page.script("return window.gridwatch.delays.length") >= 1000, "all are shown")
    assert page.script("return window.gridwatch.state.arrived") - before == 1000
    delays = sorted(page.script("return window.gridwatch.delays"))
    p50, p99 = delays[len(delays) // 2], delays[int(len(delays) * 0.99) - 1]
    print(f"round {number}, append to page: p50 {p50} ms, p99 {p99} ms, max {delays[-1]} ms of {len(delays)}")
    return float(p99)


def test_all_can_be_done_by_keyboard(served: Served, page: Browser) -> None:
    first = page.text(".list [aria-selected=true] .where")
    page.keys("j")
    assert page.text(".list [aria-selected=true] .where") != first
    page.keys("k")
    assert page.text(".list [aria-selected=true] .where") == first
    page.keys("/")
    page.keys("stuck", Keys.ESCAPE)
    page.wait_for(lambda: page.count("#list [role=option]") == 1, "the search narrows the list")
    for key, name in (("2", "Feeders"), ("3", "Meter"), ("4", "Pipeline"), ("1", "Incidents")):
        page.keys(key)
        page.wait_for(lambda name=name: page.text("nav [aria-current=page]") == name, f"key {key} shows {name}")
    page.keys("?")
    assert page.script("return document.querySelector('#keys-dialog').open")
    page.keys(Keys.ENTER)
    assert not page.script("return document.querySelector('#keys-dialog').open")


def test_the_focus_is_always_visible_and_reaches_every_control(page: Browser) -> None:
    page.script("document.activeElement.blur(); document.body.focus()")
    reached = set()
    for _ in range(40):
        page.keys(Keys.TAB)
        reached.add(
            page.script("return document.activeElement.id || document.activeElement.textContent.trim().slice(0, 20)")
        )
        outline = page.script("return getComputedStyle(document.activeElement).outlineStyle")
        inside_page = page.script("return document.activeElement !== document.body")
        assert not inside_page or outline != "none", page.script(
            "return document.activeElement.outerHTML.slice(0, 200)"
        )
    assert {"sign", "theme", "keys", "search", "list", "acknowledge", "mute", "note", "say-confirmed"} <= reached


def test_the_theme_can_be_chosen_and_is_kept(served: Served, page: Browser) -> None:
    ground = "return getComputedStyle(document.documentElement).backgroundColor"
    light = page.script(ground)
    page.click("#theme")
    dark = page.script(ground)
    assert light != dark
    page.open(served.url)
    assert page.script(ground) == dark


def test_an_acknowledgement_goes_to_kafka_and_comes_back_to_every_page(served: Served, page: Browser) -> None:
    page.keys("a")
    assert page.script("return document.querySelector('#sign-dialog').open"), "who is not signed in is asked to"
    page.keys("wrong-token-wrong-token", Keys.ENTER)
    page.wait_for(lambda: "wrong" in page.text("#sign-problem"), "a wrong token is refused")
    page.script("document.querySelector('#token').value = ''; document.querySelector('#operator').value = 'Ada'")
    page.script("document.querySelector('#token').focus()")
    page.keys(TOKEN, Keys.ENTER)
    page.wait_for(lambda: page.text("#sign") == "Sign out", "signed in")
    page.script("document.querySelector('#note').focus()")
    page.keys("on my way", Keys.ESCAPE)
    page.click("#acknowledge")
    page.wait_for(lambda: "acknowledged by Ada – on my way" in page.text(".detail"), "it came back through Kafka")
    assert "acknowledged" in page.text("#list")
    (said,) = [one for one in served.actions() if one["action"] == "acknowledge"]
    assert (said["incidentId"], said["scope"], said["scopeId"], said["operator"]) == ("aa01", "feeder", "f-1", "Ada")
    with browser() as second:
        second.open(served.url)
        second.wait_for(lambda: "acknowledged by Ada" in second.text(".detail"), "another page shows it too")


def test_mute_and_feedback_are_written_as_the_contract_says(served: Served, page: Browser) -> None:
    sign_in(page)
    page.wait_for(lambda: page.text("#sign") == "Sign out", "signed in")
    page.click("#i-cc03")
    page.wait_for(lambda: "m-5" in page.text(".detail header"), "it is chosen")
    page.click("#say-expected")
    page.wait_for(lambda: "feedback: expected" in page.text(".detail"), "the feedback came back")
    page.click('#mute option[value="120"]')
    page.wait_for(lambda: "muted until" in page.text(".detail"), "the mute came back")
    said = {one["action"]: one for one in served.actions() if one["incidentId"] == "cc03"}
    assert said["feedback"]["verdict"] == "expected"
    assert said["mute"]["muteUntil"] - said["mute"]["muteFrom"] == 2 * 3600 * 1000
    assert (said["mute"]["scope"], said["mute"]["scopeId"]) == ("meter", "m-5")


def test_a_token_behind_the_hash_signs_in_and_leaves_the_address(served: Served, page: Browser) -> None:
    page.driver.get("about:blank")
    page.driver.get(f"{served.url}#token={TOKEN}")
    page.wait_for(lambda: page.text("#sign") == "Sign out", "signed in")
    assert TOKEN not in page.driver.current_url


def test_a_meter_is_shown_with_baseline_bounds_and_findings_also_as_a_table(served: Served, page: Browser) -> None:
    page.open(served.url, f"meter/{SICK}")
    page.wait_for(lambda: page.count("svg.chart .line.voltage") == 1, "the chart is drawn")
    for part in (".line.baseline", ".band", ".limit.WARNING", ".shape.WARNING"):
        assert page.count(f"svg.chart {part}") >= 1, part
    assert "241 readings" in page.script("return document.querySelector('svg.chart').getAttribute('aria-label')")
    page.script("document.querySelector('svg.chart').focus()")
    page.keys(Keys.ARROW_LEFT)
    page.wait_for(lambda: " V" in page.text(".reading"), "the cursor reads values by keyboard")
    page.click(".filters label:last-child input")
    page.wait_for(lambda: page.count("main table tbody tr") > 200, "the table has the readings")


def test_feeders_lead_to_their_meters_and_these_to_their_voltage(served: Served, page: Browser) -> None:
    page.open(served.url, "feeders")
    page.wait_for(lambda: page.count("main tbody tr") == 2, "both feeders are there")
    assert "3 of 3" in page.text("main tbody tr")
    page.click('main a[href="#/feeders/f-1"]')
    page.wait_for(lambda: page.count("main tbody tr") == 3, "its meters are there")
    page.click(f'main a[href="#/meter/{SICK}"]')
    page.wait_for(lambda: page.count("svg.chart") == 1, "the voltage is there")


def test_another_site_can_neither_read_nor_act_nor_borrow_a_name(served: Served) -> None:
    """A page of another origin in the same browser, and a foreign name that resolves to 127.0.0.1."""
    before = len(served.actions())
    port = served.url.rstrip("/").rpartition(":")[2]
    with other_site() as elsewhere, browser("--host-resolver-rules=MAP evil.test 127.0.0.1") as visitor:
        visitor.driver.get(elsewhere)
        tried = visitor.driver.execute_async_script(_ATTACK, served.url, TOKEN)
        assert tried[:2] == ["refused", "refused"]
        visitor.driver.get(f"http://evil.test:{port}/")
        assert "Invalid host" in visitor.text("body")
    assert len(served.actions()) == before


class other_site:  # noqa: N801 - used like the function it stands for
    """A web server of somebody else, on another port of loopback."""

    def __enter__(self) -> str:
        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b"<title>elsewhere</title>")

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_without_a_token_nothing_can_be_pressed(served: Served, window: Browser) -> None:
    for shown in serve(served.place, "read-only", token=None):
        window.open(shown.url)
        window.wait_for(lambda: window.count("#list [role=option]") >= 2, "the incidents are there")
        assert window.count("#acknowledge, #mute, .verdicts") == 0
        assert "Read-only" in window.text(".detail")
        assert not window.script("return document.querySelector('#sign').checkVisibility()")


def test_without_kafka_the_page_says_so_and_still_shows_the_tables(
    served: Served, window: Browser, tmp_path: Path
) -> None:
    lake = f"{served.place.folder / 'lake'}"
    alone = Place(tmp_path, "127.0.0.1:1").with_settings(lake__root=lake)
    for shown in serve(alone):
        window.open(shown.url, "feeders")
        window.wait_for(lambda: "Kafka" in window.text("#trouble"), "the trouble is named")
        window.wait_for(lambda: window.count("main tbody tr") == 2, "the feeders come from the tables")


def test_a_broker_that_goes_away_is_told_and_nothing_is_missed_when_it_is_back(window: Browser, tmp_path: Path) -> None:
    broker = start_broker(tmp_path / "broker")
    try:
        place = Place(tmp_path, broker.bootstrap_servers)
        place.create_topics()
        write_lake(place.settings)
        topics = place.settings.kafka.topics
        send(place.settings, topics.incidents, incident("aa01"))
        for shown in serve(place):
            window.open(shown.url)
            window.wait_for(lambda: window.count("#i-aa01") == 1, "the incident is there")
            window.script("window.gridwatch.delays.length = 0")
            broker.stop()
            window.wait_for(lambda: "Kafka" in window.text("#trouble"), "the trouble is named", 30)
            assert window.count("#i-aa01") == 1, "what is known stays"
            broker.start()
            send(place.settings, topics.incidents, incident("bb02", meterId="m-6"))
            send(place.settings, topics.anomalies, *(anomaly(f"after-{n}") for n in range(50)), key="anomalyId")
            window.wait_for(lambda: window.count("#i-bb02") == 1, "the feed goes on", 60)
            window.wait_for(
                lambda: window.script("return window.gridwatch.delays.length") == 50, "each finding once", 60
            )
            window.wait_for(lambda: not window.text("#trouble"), "the trouble is over", 30)
    finally:
        broker.stop()
