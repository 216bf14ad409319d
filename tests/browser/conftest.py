"""A browser for all tests of this folder, and for each of them a page of its own on each kind of site."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Protocol

import pytest
from playwright.sync_api import Browser

from tests.browser.chat_page import ENGLISH, ChatPage, Words
from tests.browser.chromium import chromium
from tests.browser.site import Site, two_ports_of
from tests.needs import needs
from tests.system import System


class OpenChat(Protocol):
    """Opens the chat page in a browser without history; `look` are Playwright's options of a new context."""

    def __call__(self, site: Site, words: Words = ..., **look: object) -> ChatPage: ...


# Not of the session: an event loop of Playwright's runs in this thread for as long as it lives, and the tests of
# other folders want loops of their own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium."""
    with chromium(needs("chromium")) as running:
        yield running


@pytest.fixture(scope="session")
def two_ports(system: System) -> Site:
    """Without an edge: the API redirects to the gateway's port."""
    return two_ports_of(system)


@pytest.fixture(params=["two_ports"])
def site(request: pytest.FixtureRequest) -> Site:
    """Each hand-off in turn."""
    site: Site = request.getfixturevalue(request.param)
    return site


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
        chat.assert_well_behaved()


@pytest.fixture
def chat(site: Site, open_chat: OpenChat) -> ChatPage:
    """The page in English."""
    return open_chat(site)
