"""The page in its main states, by day and by night, wide and narrow; the pictures are in pytest's tmp_path."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.chat_page import ENGLISH, JAPANESE, ChatPage, OpenChat, Words
from tests.browser.site import Site

WIDE = {"viewport": {"width": 1200, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 760}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}

LOOKS: dict[str, tuple[Words, dict[str, Any]]] = {
    "light": (ENGLISH, WIDE | {"color_scheme": "light"}),
    "dark": (JAPANESE, WIDE | {"color_scheme": "dark"}),
    "phone-light": (JAPANESE, PHONE | {"color_scheme": "light"}),
    "phone-dark": (ENGLISH, PHONE | {"color_scheme": "dark"}),
}

QUESTIONS = {
    ENGLISH: "Explain what an ekiden race is, and why the runners carry a sash.",
    JAPANESE: "駅伝とはどんな競技ですか。なぜたすきを渡すのですか。",
}

#: Contrast of small text to what is behind it: WCAG 2.2, success criterion 1.4.3.
LEAST_CONTRAST = 4.5

#: Of all that shows: what sticks out sideways, and text with less contrast than {least}.
FAULTS = """(least) => {
  const colour = (text) => (([r, g, b, a = 1]) => ({rgb: [r, g, b], a}))(text.match(/[\\d.]+/g).map(Number));
  const linear = (c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const luminance = ({rgb: [r, g, b]}) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (node) => {
    const own = colour(getComputedStyle(node).backgroundColor);
    return own.a === 1 || !node.parentElement ? own : ground(node.parentElement);
  };
  const hasText = (node) => [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
  const faults = [];
  for (const node of document.querySelectorAll("body *")) {
    const {left, right, width} = node.getBoundingClientRect();
    if (!node.checkVisibility() || width <= 1) continue;
    const name = `${node.tagName} ${node.className} ${node.textContent.slice(0, 20)}`;
    if (left < 0 || right > innerWidth) faults.push(`sticks out: ${name}`);
    if (!hasText(node)) continue;
    const both = [luminance(colour(getComputedStyle(node).color)), luminance(ground(node))];
    const [dark, light] = both.sort((a, b) => a - b);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < least) faults.push(`contrast ${contrast.toFixed(2)}: ${name}`);
  }
  return faults;
}"""


@pytest.mark.parametrize("look", LOOKS)
def test_every_state_fits_and_can_be_read(two_ports: Site, open_chat: OpenChat, tmp_path: Path, look: str) -> None:
    words, options = LOOKS[look]
    chat = open_chat(two_ports, words, **options)

    for state, reach in STATES.items():
        reach(chat, words)
        chat.page.screenshot(path=tmp_path / f"{state}.png", animations="disabled")
        faults = chat.page.evaluate(FAULTS, LEAST_CONTRAST)
        assert faults == [], state


def _empty(chat: ChatPage, words: Words) -> None:
    expect(chat.page.locator("#examples button")).to_have_count(3)


def _streaming(chat: ChatPage, words: Words) -> None:
    chat.ask(QUESTIONS[words], "demo/first=0.6,rate=0,stall=40")
    chat.await_text(60)
    expect(chat.note).to_have_text(words.answering)


def _stopped(chat: ChatPage, words: Words) -> None:
    chat.stop.click()
    chat.await_end()


def _done(chat: ChatPage, words: Words) -> None:
    chat.ask(QUESTIONS[words], "demo/rate=0,reasoning,tokens=200")
    chat.await_end()


def _failed(chat: ChatPage, words: Words) -> None:
    chat.ask(QUESTIONS[words], "demo/status=500")
    expect(chat.answers.last).to_contain_text(words.unavailable)


def _scrolled(chat: ChatPage, words: Words) -> None:
    chat.page.locator("#text").fill("\n".join(["1", "二", "three"]))
    chat.page.evaluate("scroller.scrollTop = 0")
    expect(chat.page.locator("#latest")).to_be_visible()


STATES = {
    "1-empty": _empty,
    "2-streaming": _streaming,
    "3-stopped": _stopped,
    "4-done": _done,
    "5-failed": _failed,
    "6-scrolled": _scrolled,
}
