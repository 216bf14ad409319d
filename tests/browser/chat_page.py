"""The chat page under the hands of a person who reads English or Japanese, and under a watchful eye."""

import re
from dataclasses import dataclass
from typing import Any, Protocol

from playwright.sync_api import BrowserContext, ConsoleMessage, Error, Locator, Request, expect

from tests.browser.site import Site
from tests.patience import PATIENCE_SECONDS

#: Tells Python each text that the last answer ever shows, in the same microtask in which the page changed it.
#: Runs in every document before the page's own scripts, after a reload too; the page's policy does not bind it.
RECORD_TEXTS = """
    new MutationObserver(() => {
      const texts = document.querySelectorAll(".answer > .text");
      if (texts.length > 0) noteText(texts[texts.length - 1].textContent);
    }).observe(document, {subtree: true, childList: true, characterData: true});
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What the tests look for, in one of the page's languages."""

    locale: str
    send: str
    stop: str
    retry: str
    new: str
    answering: str
    reconnecting: str
    stopped: str
    unavailable: str


ENGLISH = Words(
    locale="en-US",
    send="Send",
    stop="Stop",
    retry="Try again",
    new="New conversation",
    answering="Answering…",
    reconnecting="Connection lost. Reconnecting, nothing is lost…",
    stopped="Stopped",
    unavailable="The model cannot be reached right now.",
)

JAPANESE = Words(
    locale="ja-JP",
    send="送信",
    stop="停止",
    retry="再試行",
    new="新しい会話",
    answering="回答中…",
    reconnecting="接続が切れました。再接続しています（内容は失われません）…",
    stopped="停止しました",
    unavailable="現在モデルに接続できません。",
)


class ChatPage:
    """One tab with the chat page. Locators are of the last answer; `task_ids` are those that its POSTs made."""

    def __init__(self, context: BrowserContext, site: Site, words: Words) -> None:
        self.site = site
        self.words = words
        self.task_ids: list[str] = []
        self.texts: list[str] = []
        self.requests: list[Request] = []
        self.complaints: list[str] = []
        self._excused: list[str] = []
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE_SECONDS * 1000)
        self.page.on("console", self._note_console)
        self.page.on("pageerror", self._note_page_error)
        self.page.on("request", self._note_request)
        self.page.expose_function("noteText", lambda text: self.texts.append(text))
        self.page.add_init_script(RECORD_TEXTS)

    # What a person does

    def open(self) -> None:
        """Go to the page."""
        self.page.goto(self.site.origin)
        expect(self.page.locator("#model")).to_be_visible()

    def choose_model(self, name: str) -> None:
        """Choose one of the list, or write it into the field for others."""
        chooser = self.page.locator("#model")
        if name in chooser.locator("option").all_inner_texts():
            chooser.select_option(name)
            return
        chooser.select_option("")
        self.page.locator("#model-name").fill(name)
        self.page.locator("#model-name").press("Tab")

    def ask(self, question: str, model: str) -> str:
        """Write a question and send it; the id of its task."""
        self.choose_model(model)
        self.page.locator("#text").fill(question)
        return self.sent_by(self.send)

    def sent_by(self, button: Locator) -> str:
        """Press a button that sends a message; the id of its task."""
        with self.page.expect_response(lambda response: _is_question(response.request)) as answered:
            button.click()
        task_id: str = answered.value.json()["task_id"]
        self.task_ids.append(task_id)
        return task_id

    # What a person sees

    @property
    def send(self) -> Locator:
        """The button, while it says Send."""
        return self.page.get_by_role("button", name=self.words.send, exact=True)

    @property
    def stop(self) -> Locator:
        """The button, while it says Stop."""
        return self.page.get_by_role("button", name=self.words.stop, exact=True)

    @property
    def retry(self) -> Locator:
        """The button below an answer that failed."""
        return self.page.get_by_role("button", name=self.words.retry, exact=True)

    @property
    def questions(self) -> Locator:
        """All questions of the conversation."""
        return self.page.locator(".user")

    @property
    def answers(self) -> Locator:
        """All answers of the conversation."""
        return self.page.locator(".answer")

    @property
    def text(self) -> Locator:
        """The answer's text, without its reasoning."""
        return self.answers.last.locator("> .text")

    @property
    def note(self) -> Locator:
        """The line below the answer that says how it goes."""
        return self.answers.last.locator("> .status")

    def await_text(self, characters: int) -> None:
        """Return once the answer is so long, and still coming."""
        expect(self.text).to_have_text(re.compile(rf".{{{characters},}}", re.DOTALL))
        expect(self.answers.last).to_have_attribute("aria-busy", "true")

    def await_end(self) -> None:
        """Return once the answer has ended, however it did, and another question may be sent."""
        expect(self.answers.last).to_have_attribute("aria-busy", "false")
        expect(self.send).to_be_visible()

    def shown(self) -> str:
        """The answer's text, byte for byte: a locator's own words would have their white space tidied up."""
        text: str = self.text.evaluate("element => element.textContent")
        return text

    # What is behind it

    def task(self) -> dict[str, Any]:
        """The last question's task, as the server knows it."""
        return self.site.system.task(self.task_ids[-1])

    @property
    def questions_posted(self) -> int:
        """How often a message was sent to the server, whether or not it answered."""
        return sum(map(_is_question, self.requests))

    def excuse(self, complaint: str) -> None:
        """The test itself provokes console errors that contain these words."""
        self._excused.append(complaint)

    def complained(self) -> list[str]:
        """What the browser has complained of until now: Playwright hands it over while it waits for something else."""
        self.page.title()
        return self.complaints

    def assert_well_behaved(self) -> None:
        """No error, nothing that the page's policy forbids, no word to a third party."""
        complaints = [one for one in self.complaints if not any(words in one for words in self._excused)]
        assert complaints == []
        homes = (f"{self.site.origin}/", f"{self.site.streams_origin}/")
        assert [request.url for request in self.requests if not request.url.startswith(homes)] == []

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self.complaints.append(f"{message.type}: {message.text} ({message.location['url']})")

    def _note_page_error(self, error: Error) -> None:
        self.complaints.append(f"page error: {error}")

    def _note_request(self, request: Request) -> None:
        self.requests.append(request)


class OpenChat(Protocol):
    """Opens the page in a browser without history; `look` are Playwright's options of a new context."""

    def __call__(self, site: Site, words: Words = ENGLISH, **look: object) -> ChatPage: ...


def _is_question(request: Request) -> bool:
    return request.method == "POST" and request.url.endswith("/api/async/chat")
