"""What a person sees of an answer, whatever becomes of it, and that the server knows the same."""

import pytest
from playwright.sync_api import expect

from tests.browser.chat_page import ENGLISH, JAPANESE, ChatPage, OpenChat, Words
from tests.browser.site import Site
from tests.patience import wait_until

QUESTIONS = {ENGLISH: "What is an ekiden, and who runs it?", JAPANESE: "駅伝とは何ですか。だれが走りますか。"}

languages = pytest.mark.parametrize("words", [ENGLISH, JAPANESE], ids=["english", "japanese"])


def assert_only_ever_grew(chat: ChatPage) -> None:
    """Nothing was doubled, lost or taken back, not for the blink of an eye."""
    whole = chat.shown()
    assert [text for text in chat.texts if not whole.startswith(text)] == []


@languages
def test_an_answer_grows_until_it_is_the_whole_text(site: Site, open_chat: OpenChat, words: Words) -> None:
    chat = open_chat(site, words)

    chat.ask(QUESTIONS[words], "demo/rate=60,tokens=90")
    chat.await_text(10)
    with site.silent_model():
        expect(chat.stop).to_be_enabled()
        expect(chat.note).to_have_text(words.answering)
    chat.await_end()

    task = chat.task()
    assert task["status"] == "completed"
    assert chat.shown() == task["content"]
    assert len(set(chat.texts)) > 10
    assert_only_ever_grew(chat)
    expect(chat.questions).to_have_text([QUESTIONS[words]])
    expect(chat.note).to_contain_text("90")


def test_stop_keeps_the_text_and_closes_the_connection_to_the_provider(site: Site, open_chat: OpenChat) -> None:
    chat = open_chat(site, JAPANESE)
    before = site.system.model_stats()["cancelled"]
    chat.ask(QUESTIONS[JAPANESE], "demo/first=0.6,rate=20,tokens=1000")  # a click just after Send would not count
    chat.await_text(10)

    chat.stop.click()
    chat.await_end()

    task = chat.task()
    assert task["status"] == "cancelled"
    assert chat.shown() == task["content"] != ""
    expect(chat.note).to_contain_text(JAPANESE.stopped)
    wait_until(lambda: site.system.model_stats()["cancelled"] == before + 1, what="the provider's connection closed")
    assert site.system.model_stats()["open_connections"] == 0
    assert_only_ever_grew(chat)


def test_a_reload_finds_the_conversation_and_its_answer_going_on(chat: ChatPage, site: Site) -> None:
    chat.ask(QUESTIONS[ENGLISH], "demo/rate=0,tokens=30")
    chat.await_end()
    first = chat.shown()
    chat.texts.clear()
    chat.ask(QUESTIONS[JAPANESE], "demo/rate=60,tokens=90")
    chat.await_text(10)

    with site.silent_model():
        seen = chat.shown()
        chat.page.reload()
        chat.await_text(len(seen))
        expect(chat.stop).to_be_enabled()
    chat.await_end()

    task = chat.task()
    assert task["status"] == "completed"
    assert len(seen) < len(chat.shown())
    assert chat.shown() == task["content"]
    assert_only_ever_grew(chat)
    expect(chat.questions).to_have_text([QUESTIONS[ENGLISH], QUESTIONS[JAPANESE]])
    expect(chat.answers.locator("> .text")).to_have_text([first, task["content"]])
    assert chat.questions_posted == 2


def test_a_gateway_killed_and_started_again_costs_no_word(chat: ChatPage, site: Site) -> None:
    chat.excuse("net::ERR_")
    chat.ask(QUESTIONS[JAPANESE], "demo/rate=30,tokens=90")
    chat.await_text(10)

    site.system.gateway.kill()
    expect(chat.note).to_have_text(chat.words.reconnecting)
    seen = chat.shown()
    wait_until(lambda: len(chat.task()["content"]) > len(seen), what="words that nobody could bring to the page")
    with site.silent_model():
        site.system.restart(site.system.gateway)
        chat.await_text(len(seen) + 1)
    chat.await_end()

    task = chat.task()
    assert task["status"] == "completed"
    assert chat.shown() == task["content"]
    assert_only_ever_grew(chat)
    assert chat.questions_posted == 1


def test_a_failed_answer_says_so_and_can_be_tried_again(chat: ChatPage) -> None:
    chat.ask(QUESTIONS[ENGLISH], "demo/status=500")
    expect(chat.answers.last).to_contain_text(ENGLISH.unavailable)
    assert chat.task()["status"] == "failed"

    chat.choose_model("demo/rate=0")
    chat.sent_by(chat.retry)
    chat.await_end()

    task = chat.task()
    assert task["status"] == "completed"
    assert chat.shown() == task["content"]
    expect(chat.questions).to_have_text([QUESTIONS[ENGLISH]])
    expect(chat.answers).to_have_count(1)


def test_markup_in_a_question_and_in_its_answer_is_text(chat: ChatPage) -> None:
    attack = """<img src=x onerror="document.title='ran'"><script>document.title='ran'</script><b>駅伝</b> &amp;"""

    chat.ask(attack, "demo/echo,rate=0")
    chat.await_end()
    answered = chat.shown()
    chat.page.reload()
    expect(chat.text).to_have_text(attack)

    assert answered == chat.shown() == chat.task()["content"] == attack
    expect(chat.questions).to_have_text([attack])
    expect(chat.page.locator("#log :is(img, script, b)")).to_have_count(0)
    assert chat.page.title() == "駅伝 Ekiden"


def test_the_policy_lets_neither_scripts_in_nor_words_out(chat: ChatPage) -> None:
    chat.excuse("Content Security Policy")

    chat.page.evaluate("""() => {
      globalThis.forbidden = [];
      document.addEventListener("securitypolicyviolation", (event) => forbidden.push(event.effectiveDirective));
      const script = document.createElement("script");
      script.textContent = "document.title = 'ran'";
      document.head.append(script);
      document.body.insertAdjacentHTML("beforeend", `<img src="data:," onerror="document.title = 'ran'">`);
      fetch("http://127.0.0.1:9/").catch(() => {});
    }""")
    chat.page.wait_for_function("() => forbidden.length === 3")

    assert sorted(chat.page.evaluate("forbidden")) == ["connect-src", "script-src-attr", "script-src-elem"]
    assert chat.page.title() == "駅伝 Ekiden"
    wait_until(lambda: len(chat.complained()) >= 3, what="what every other test takes for a fault")
