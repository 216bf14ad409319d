"""A browser for all tests of this folder, and for each of them a page of its own on each kind of site."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser

from tests.browser.chat_page import ENGLISH, ChatPage, OpenChat, Words
from tests.browser.chromium import chromium
from tests.browser.site import Site, behind, two_ports_of
from tests.edge import BEHIND_THE_EDGE, edge_before
from tests.needs import program
from tests.system import System


# Not of the session: an event loop of Playwright's runs in this thread for as long as it lives, and the tests of
# other folders want loops of their own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium."""
    with chromium(program("chromium")) as running:
        yield running


@pytest.fixture(scope="session")
def two_ports(system: System) -> Site:
    """Without an edge: the API redirects to the gateway's port."""
    return two_ports_of(system)


@pytest.fixture(scope="session")
def one_origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Behind the edge: Nginx hands over to the gateway, which the browser never sees."""
    directory = tmp_path_factory.mktemp("one_origin")
    program("nginx")  # before a relay is started in vain
    relay = System(directory, settings=BEHIND_THE_EDGE)
    relay.start()
    try:
        with edge_before(relay, directory / "edge") as edge:
            yield behind(edge, relay)
    finally:
        relay.stop()


@pytest.fixture(params=["two_ports", "one_origin"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Each hand-off in turn; whole again for the next test, whatever became of this one."""
    site: Site = request.getfixturevalue(request.param)
    yield site
    if not site.system.gateway.is_running():
        site.system.restart(site.system.gateway)


@pytest.fixture
def open_chat(browser: Browser) -> Iterator[OpenChat]:
    """Opens pages; at the end none of them may have complained, and nothing that they asked for runs on."""
    opened: list[ChatPage] = []
    with ExitStack() as stack:

        def open_chat(site: Site, words: Words = ENGLISH, **look: object) -> ChatPage:
            context = browser.new_context(locale=words.locale, **look)  # type: ignore[arg-type]
            stack.callback(context.close)
            chat = ChatPage(context, site, words)
            opened.append(chat)
            chat.open()
            return chat

        yield open_chat
    for chat in opened:
        for task_id in chat.task_ids:
            chat.site.system.http.post(f"/api/async/tasks/{task_id}/cancel")
    for chat in opened:
        chat.assert_well_behaved()


@pytest.fixture
def chat(site: Site, open_chat: OpenChat) -> ChatPage:
    """The page in English."""
    return open_chat(site)
