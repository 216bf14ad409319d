/** One answer on the page: reasoning, text, a line about how it goes, and at the end perhaps a fault. */

import { make } from "./elements.js";
import { faultDetail, faultWords, words } from "./words.js";

export class AnswerView {
  #reasoningText = make("div", { className: "text" });
  #reasoning = make(
    "details",
    { className: "reasoning", hidden: true },
    make("summary", { textContent: words.reasoning }),
    this.#reasoningText,
  );
  #text = make("div", { className: "text" });
  #note = make("p", { className: "status" });
  /** What the page puts into its log. */
  article = make("article", { className: "answer" }, this.#reasoning, this.#text, this.#note);

  constructor() {
    this.article.setAttribute("aria-label", words.answer);
    this.article.setAttribute("aria-busy", "true");
  }

  /** The answer as it is now. */
  show({ content, reasoning }, note) {
    this.#reasoning.hidden = reasoning === "";
    setText(this.#reasoningText, reasoning);
    setText(this.#text, content);
    if (this.#note.textContent !== note) this.#note.textContent = note;
  }

  /** The answer has ended. `content` replaces what is shown, `problem` is that of a failed one. */
  end({ status, content, problem, note, onRetry }) {
    if (content !== undefined) setText(this.#text, content);
    this.#note.textContent = note;
    if (status === "failed") this.article.append(makeFault(problem, onRetry));
    this.article.setAttribute("aria-busy", "false");
  }

  remove() {
    this.article.remove();
  }
}

function makeFault(problem, onRetry) {
  const inWords = make("div", { className: "fault-words" }, make("p", { textContent: faultWords(problem) }));
  const detail = faultDetail(problem);
  if (detail) inWords.append(make("p", { className: "fault-detail", textContent: detail }));
  const button = make("button", { type: "button", className: "quiet", textContent: words.retry });
  button.addEventListener("click", onRetry);
  return make("div", { className: "fault" }, inWords, button);
}

/** Appends where it can, so that a selection in the text above survives the stream. */
function setText(holder, content) {
  const node = holder.firstChild;
  if (node === null || content === "") {
    if (holder.textContent !== content) holder.textContent = content;
  } else if (content.length !== node.length || content !== node.data) {
    if (content.startsWith(node.data)) node.appendData(content.slice(node.length));
    else node.data = content;
  }
}
