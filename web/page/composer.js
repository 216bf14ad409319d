/** Where a message is written, and the one button that sends it or stops its answer. */

import { element } from "./elements.js";
import { words } from "./words.js";

export class Composer {
  #text = element("text");
  #button = element("send");
  #word = element("send-word");
  #onSend;
  #state = { isRunning: false, isBlocked: false };

  /** @param {{onSend: (text: string) => void, onStop: () => void}} listeners */
  constructor({ onSend, onStop }) {
    this.#onSend = onSend;
    this.#text.placeholder = words.placeholder;
    element("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#button.addEventListener("click", (event) => {
      if (!this.#state.isRunning) return;
      event.preventDefault();
      onStop();
    });
    this.#text.addEventListener("keydown", (event) => {
      if (!sends(event)) return;
      event.preventDefault();
      this.#send();
    });
    this.#text.addEventListener("input", () => {
      this.#fit();
      this.#paintButton();
    });
  }

  /** @param {{isRunning: boolean, isBlocked: boolean}} state the button stops while an answer runs, unless blocked */
  paint(state) {
    this.#state = state;
    this.#paintButton();
  }

  /** Not on a phone, where it would open the keyboard over the answer. */
  focus() {
    if (matchMedia("(hover: hover)").matches) this.#text.focus({ preventScroll: true });
  }

  #send() {
    const text = this.#text.value.trim();
    if (text === "" || this.#state.isRunning || this.#state.isBlocked) return;
    this.#text.value = "";
    this.#fit();
    this.focus(); // a click has left it on the button, which from now on stops the answer
    this.#onSend(text);
  }

  #paintButton() {
    const { isRunning, isBlocked } = this.#state;
    const word = isRunning ? words.stop : words.send;
    this.#button.classList.toggle("stops", isRunning);
    this.#button.disabled = isBlocked || (!isRunning && this.#text.value.trim() === "");
    if (this.#word.textContent !== word) this.#word.textContent = word;
  }

  #fit() {
    if (CSS.supports("field-sizing", "content")) return;
    this.#text.style.height = "auto";
    this.#text.style.height = `${this.#text.scrollHeight}px`;
  }
}

/** Enter that confirms an input method's candidate is not for us; Safari tells by keyCode 229 only. */
function sends(event) {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
}
