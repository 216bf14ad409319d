"""Writing a message: the keys and clicks that send it, and those that do not."""

from playwright.sync_api import expect

from tests.browser.chat_page import JAPANESE, ChatPage, OpenChat
from tests.browser.site import Site

#: What an input method makes of a key while it offers candidates.
PROCESSED_ENTER = {"type": "rawKeyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}


def test_enter_that_confirms_a_candidate_sends_nothing(two_ports: Site, open_chat: OpenChat) -> None:
    chat = open_chat(two_ports, JAPANESE)
    chat.choose_model("demo/rate=0")
    chat.page.locator("#text").click()
    keyboard = chat.page.context.new_cdp_session(chat.page)

    keyboard.send("Input.imeSetComposition", {"text": "えきでん", "selectionStart": 4, "selectionEnd": 4})
    keyboard.send("Input.dispatchKeyEvent", PROCESSED_ENTER)
    keyboard.send("Input.insertText", {"text": "駅伝とは"})
    expect(chat.page.locator("#text")).to_have_value("駅伝とは")
    assert chat.questions_posted == 0
    chat.page.keyboard.press("Enter")

    expect(chat.questions).to_have_text(["駅伝とは"])
    chat.await_end()
    assert chat.questions_posted == 1


def test_shift_and_enter_start_a_new_line(two_ports: Site, open_chat: OpenChat) -> None:
    chat = open_chat(two_ports)
    chat.choose_model("demo/echo,rate=0")
    field = chat.page.locator("#text")

    field.press_sequentially("one")
    field.press("Shift+Enter")
    field.press_sequentially("二")
    field.press("Enter")
    chat.await_end()

    assert chat.shown() == "one\n二"


def test_a_double_click_on_send_does_not_stop_what_it_sent(chat: ChatPage) -> None:
    chat.choose_model("demo/rate=100,tokens=30")
    chat.page.locator("#text").fill("走る")

    chat.send.dblclick()
    chat.await_end()

    assert len(chat.shown()) > 30
    assert chat.questions_posted == 1
    expect(chat.note).not_to_contain_text(chat.words.stopped)


def test_after_a_click_on_send_one_can_write_on(two_ports: Site, open_chat: OpenChat) -> None:
    chat = open_chat(two_ports)

    with two_ports.silent_model():
        chat.ask("First.", "demo/rate=0")
        chat.page.keyboard.type("Second.")
        chat.page.keyboard.press("Enter")  # not yet: the first is being answered
        expect(chat.page.locator("#text")).to_have_value("Second.")
    chat.await_end()

    assert chat.questions_posted == 1
    expect(chat.note).not_to_contain_text(chat.words.stopped)


def test_nothing_can_be_sent_before_something_is_written(two_ports: Site, open_chat: OpenChat) -> None:
    chat = open_chat(two_ports)
    expect(chat.send).to_be_disabled()

    chat.page.locator("#text").fill(" \n ")
    expect(chat.send).to_be_disabled()

    chat.page.locator("#text").fill("a")
    expect(chat.send).to_be_enabled()
