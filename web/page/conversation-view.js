/** The conversation on the page: a welcome, or questions and answers, followed to their end unless one scrolls up. */

import { AnswerView } from "./answer-view.js";
import { element, make } from "./elements.js";
import { words } from "./words.js";

//: As near to the end as this, in pixels, the page keeps following the text.
const FOLLOW_PX = 48;

export class ConversationView {
  #log = element("log");
  #welcome = element("welcome");
  #scroller = element("scroller");
  #latest = element("latest");
  #isFollowing = true;

  /** @param {{onExample: (text: string) => void}} listeners */
  constructor({ onExample }) {
    for (const example of words.examples) {
      const button = make("button", { type: "button", textContent: example });
      button.addEventListener("click", () => onExample(example));
      element("examples").append(button);
    }
    this.#latest.addEventListener("click", () => this.followEnd());
    this.#scroller.addEventListener("scroll", () => this.#noteScroll(), { passive: true });
    new ResizeObserver(() => this.keepUp()).observe(this.#scroller);
  }

  clear() {
    this.#log.replaceChildren();
    this.welcome();
  }

  welcome() {
    this.#welcome.hidden = false;
  }

  addQuestion(text) {
    const bubble = make("article", { className: "user text", textContent: text });
    bubble.setAttribute("aria-label", words.you);
    this.#append(bubble);
  }

  addAnswer() {
    const view = new AnswerView();
    this.#append(view.article);
    return view;
  }

  /** Only the last question may be asked again: its answer belongs at the end. */
  removeRetryButtons() {
    for (const button of this.#log.querySelectorAll(".fault button")) button.remove();
  }

  followEnd() {
    this.#isFollowing = true;
    this.#latest.hidden = true;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  /** The text has grown. */
  keepUp() {
    if (this.#isFollowing) this.followEnd();
  }

  #append(article) {
    this.#welcome.hidden = true;
    this.#log.append(article);
  }

  #noteScroll() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    this.#isFollowing = scrollHeight - scrollTop - clientHeight < FOLLOW_PX;
    this.#latest.hidden = this.#isFollowing;
  }
}
