"""The live page in a real browser, over a real Kafka, a real Redis and a real worker.

All tests share one worker, one server with tokens and one browser. Each test is a new visitor with users of its own.
"""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from streams.settings import HttpSettings, KafkaSettings, MetricsSettings, RedisSettings, Settings, TablesSettings
from streams.testing.embedded import free_port
from streams.testing.worker_process import COMMAND, WorkerProcess, environment
from tests.client import Client, until
from tests.live_page import browser, click, search, wait_for_list

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> & mug"
READ, WRITE = "a-token-to-read-lists", "a-token-to-write-events"
GOAL_MS = 300
CLICKS = 6
RETRY_MS = 60_000
EXPECTED = ("ERR_", "TrustedHTML")
"""Messages that these tests cause: the server is away, and markup is refused."""


@dataclass
class Shop:
    """A worker with its page, and the browser."""

    settings: Settings
    client: Client
    worker: WorkerProcess
    browser: Browser
    with_tokens: str

    @property
    def address(self) -> str:
        return address_of(self.settings)


def address_of(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.http.port}/page/"


@pytest.fixture(scope="module")
def shop(kafka: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    unique = uuid.uuid4().hex[:8]
    settings = Settings(
        topic_prefix=f"t{unique}.",
        kafka=KafkaSettings(bootstrap_servers=kafka, group_id=f"g{unique}", partitions=4),
        redis=RedisSettings(url=SecretStr(redis_url)),
        tables=TablesSettings(data_dir=tmp_path_factory.mktemp("page") / "data"),
        metrics=MetricsSettings(port=free_port()),
        http=HttpSettings(port=free_port(), rerank=False),
    )
    client = Client(settings)  # before the browser, whose driver keeps an event loop in this thread
    client.items()
    client.produce("items", "hostile", {"item_id": "hostile", "title": HOSTILE, "categories": ["<b>bold</b>"]})
    client.flush()
    tokens = {"read_token": SecretStr(READ), "write_token": SecretStr(WRITE)}
    guarded = settings.model_copy(update={"http": HttpSettings(port=free_port(), rerank=False, **tokens)})
    serve = [sys.executable, "-m", "streams.cli", "serve", "--web"]
    with browser() as running:
        worker = WorkerProcess(settings, command=(*COMMAND, "--web"))
        started = Shop(settings, client, worker, running, address_of(guarded))
        try:
            worker.wait_ready()
            # `afterclick serve --web` beside the worker, as a team would run it over its own Kafka.
            with subprocess.Popen(serve, env=environment(guarded), stderr=subprocess.DEVNULL) as server:
                try:
                    yield started
                finally:
                    server.terminate()
        finally:
            started.worker.stop()


@pytest.fixture
def user() -> str:
    return f"u-{uuid.uuid4().hex[:6]}"


@pytest.fixture
def page(shop: Shop, user: str) -> Iterator[Page]:
    """The page as a new visitor sees it; a message on the browser's console fails the test."""
    yield from visit(shop.browser, f"{shop.address}?user={user}", viewport={"width": 1360, "height": 1000})


def visit(running: Browser, address: str, **options: Any) -> Iterator[Page]:
    context = running.new_context(**options)
    context.set_default_timeout(RETRY_MS)
    page, messages = context.new_page(), []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    until_answers(page, address)
    page.wait_for_selector("#items .card")
    yield page
    context.close()
    assert [text for text in messages if not any(expected in text for expected in EXPECTED)] == []


def until_answers(page: Page, address: str) -> None:
    """Open the page; its server starts beside the worker."""
    from playwright.sync_api import Error

    deadline = time.monotonic() + RETRY_MS / 1000
    while True:
        try:
            page.goto(address)
            return
        except Error:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def expect(page: Page, selector: str) -> Any:
    """Wait for what is asserted. The page's policy forbids `page.wait_for_function`, which evaluates a text."""
    from playwright.sync_api import expect as expect_locator

    expect_locator.set_options(timeout=RETRY_MS)
    return expect_locator(page.locator(selector))


def titles(page: Page) -> list[str]:
    return page.locator("#recommendations .look").all_inner_texts()


def test_a_click_changes_the_list_before_the_users_eyes(
    page: Page, user: str, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    page.wait_for_selector("#recommendations .row")
    assert page.inner_text("#list-title") == "The list for newcomers"
    cold = titles(page)
    search(page, "boots")
    times = [click(page, f"#items .card:nth-child({number}) .look") for number in range(1, CLICKS + 1)]
    record_property("click_to_screen_ms", times)
    with capsys.disabled():
        print(f"\nfrom a click to the new list on the screen: {times} ms (goal: {GOAL_MS} ms on an idle machine)")
    assert min(times) < GOAL_MS, "on a busy machine at least the fastest one is within the goal"
    assert "in Kafka" in page.inner_text("#took-parts"), "and from the event's own timestamp"
    assert titles(page) != cold
    assert page.inner_text("#list-title") == f"The list of {user}"
    assert sum("boots" in title for title in titles(page)[:5]) >= 4, "the list has other things than what was viewed"
    assert page.locator("#recommendations .move").count() > 0, "what moved is marked"
    why = page.locator("#recommendations .row:first-child .why")
    assert why.locator("summary").inner_text().startswith("Because you viewed ")
    why.locator("summary").click()
    assert "Evidence: " in why.inner_text()
    expect(page, "#history .type").to_have_count(CLICKS)
    assert page.inner_text("#interests li:first-child strong") == "walking boots"
    assert "New list" in page.inner_text("#announcer"), "a screen reader says it"
    assert "ready" in page.inner_text("#pipeline")
    for name in ("Lag", "Batch", "Model", "Degraded"):
        assert name in page.inner_text("#pipeline")


def test_a_purchase_leaves_the_list_and_forgetting_leaves_nothing(page: Page, shop: Shop, user: str) -> None:
    click(page, "#items .card .look")
    bought = page.locator("#recommendations .row:nth-child(2) .look").inner_text()
    click(page, "#recommendations .row:nth-child(2) .buy")
    assert bought not in titles(page)
    page.wait_for_selector("#history .type.purchase")
    assert page.inner_text("#history li:first-child").startswith("bought")
    page.click("#forget")
    page.click("#forget-dialog button[value=cancel]")
    assert page.locator("#history .type").count() == 2, "cancelled"
    page.click("#forget")
    page.click("#forget-dialog button[value=forget]")
    expect(page, "#list-title").to_have_text("The list for newcomers")
    expect(page, "#history .type").to_have_count(0)
    until(lambda: shop.client.cached(user) is None)


def test_each_shopper_has_a_list_of_their_own_in_each_tab(page: Page, shop: Shop, user: str) -> None:
    search(page, "boots")
    click(page, "#items .card .look")
    boots = titles(page)
    other = f"{user}-2"
    page.fill("#shopper-id", other)
    page.click("#add-shopper button")
    assert page.inner_text("#shoppers [aria-current]") == other
    search(page, "lamp")
    click(page, "#items .card .look")
    assert "lamp" in titles(page)[0]
    page.click(f"#shoppers button[data-user={user}]")
    assert titles(page) == boots
    for tab in visit(shop.browser, f"{shop.address}?user={other}"):
        tab.wait_for_selector("#recommendations .row")
        click(tab, "#recommendations .look")
        page.wait_for_selector(f"#shoppers button[data-user={other}] .dot")
    page.click(f"#shoppers button[data-user={other}]")
    expect(page, "#history .type").to_have_count(2)


def test_a_hostile_title_is_a_text(page: Page) -> None:
    search(page, "mug")
    assert page.locator("#items .card .look").first.inner_text() == HOSTILE
    click(page, "#items .card .look")
    page.wait_for_selector("#history .type")
    assert page.inner_text("#history .name") == HOSTILE
    page.click("#categories button >> text=<b>bold</b>")
    assert page.title() == "Afterclick: every click re-ranks the list"
    assert page.locator("main script, main img, main b").count() == 0
    blocked = page.evaluate("""() => {
      try { document.body.innerHTML = '<b>x</b>'; return false; } catch (error) { return error instanceof TypeError; }
    }""")
    assert blocked, "the policy forbids markup from a text"


def test_it_is_usable_with_the_keyboard_alone(page: Page, user: str) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(40):
        if page.evaluate("document.activeElement.id") == "query":
            break
        page.keyboard.press("Tab")
    with page.expect_response(lambda response: "/page/items" in response.url):
        page.keyboard.type("tent")
    page.wait_for_timeout(50)
    while page.evaluate("document.activeElement.className") != "look":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait_for_list(page)
    page.locator("#recommendations .row:nth-child(2) .look").focus()
    item = page.evaluate("document.activeElement.closest('[data-item]').dataset.item")
    page.keyboard.press("Enter")
    wait_for_list(page)
    focused = page.evaluate("document.activeElement.closest('[data-item]')?.dataset.item ?? null")
    assert focused is not None, "the focus stays in the list while it changes"
    shown = page.evaluate("[...document.querySelectorAll('#recommendations .row')].map((row) => row.dataset.item)")
    assert focused == item or item not in shown
    page.focus("#forget")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('#forget-dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "forget"


AUDIT = (Path(__file__).parent / "audit.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1360, 360])
def test_names_roles_contrast_and_sizes_are_right(shop: Shop, user: str, scheme: Any, width: int) -> None:
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "reduced_motion": "reduce"}
    for page in visit(shop.browser, f"{shop.address}?user={user}", **options):
        page.click("#items .card .look")
        page.wait_for_selector("#recommendations .move")
        assert page.evaluate("document.getAnimations().length") == 0, "the visitor asks for less motion"
        page.click("#recommendations .why summary")
        if width < 500 and page.locator("#news").is_visible():
            page.click("#news")
            assert page.evaluate("document.activeElement.id") == "list"
        assert page.evaluate(AUDIT) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is cut off at the side"


def test_with_tokens_reading_and_clicking_each_need_their_own(shop: Shop, user: str) -> None:
    shop.client.click(user, "item-2")
    shop.client.flush()
    until(lambda: shop.client.cached(user))
    context = shop.browser.new_context()
    context.set_default_timeout(RETRY_MS)
    page = context.new_page()
    until_answers(page, f"{shop.with_tokens}?user={user}")
    page.fill("#read-token", "not-the-right-token")
    page.click("#token-form button")
    page.wait_for_selector("#token-refused:not([hidden])")
    page.fill("#read-token", READ)
    page.click("#token-form button")
    page.wait_for_selector("#items .card")
    expect(page, "#list-title").to_have_text(f"The list of {user}")
    expect(page, "#history .type").to_have_count(1)
    page.click("#items .card .look")
    page.wait_for_selector("#token-dialog[open]")
    page.fill("#write-token", WRITE)
    page.click("#token-form button")
    page.wait_for_selector("#connection[data-state=live]")
    click(page, "#items .card .look")
    expect(page, "#history .type").to_have_count(2)
    assert page.evaluate("Object.keys(localStorage).length") == 0
    assert context.cookies() == []
    context.close()


def test_the_page_comes_back_after_the_worker_has_died(page: Page, shop: Shop, user: str) -> None:
    """The last test: the worker is another one afterwards."""
    search(page, "boots")
    click(page, "#items .card .look")
    page.wait_for_selector("#connection[data-state=live]")
    shop.worker.kill()
    page.wait_for_selector("#connection[data-state=waiting]")
    page.click("#items .card:nth-child(2) .look")
    page.wait_for_selector("#problem:not([hidden])")
    assert "tries again" in page.inner_text("#problem")
    shop.worker = WorkerProcess(shop.settings, command=(*COMMAND, "--web"))
    shop.worker.wait_ready()
    page.wait_for_selector("#connection[data-state=live]")
    assert page.locator("#recommendations .row").count() > 0
    click(page, "#items .card:nth-child(3) .look")
    assert page.locator("#problem").is_hidden()
    expect(page, "#history .type").to_have_count(2)
