/** Which model is asked: a list of the server's names, and a field for those that only match a pattern of its. */

import { element } from "./elements.js";
import { words } from "./words.js";

export class ModelChooser {
  #client;
  #preferred;
  #select = element("model");
  #name = element("model-name");

  /**
   * @param {import("./client/async-chat-client.js").AsyncChatClient} client
   * @param {{preferred: string | undefined, onChange: () => void}} options
   */
  constructor(client, { preferred, onChange }) {
    this.#client = client;
    this.#preferred = preferred;
    this.#name.setAttribute("aria-label", words.model);
    this.#name.addEventListener("change", onChange);
    this.#select.addEventListener("change", () => {
      this.#showName();
      if (!this.#name.hidden) this.#name.focus();
      onChange();
    });
  }

  /** undefined leaves the choice to the server. */
  get chosen() {
    if (this.#isEmpty) return this.#preferred;
    return this.#select.value || this.#name.value.trim() || undefined;
  }

  /** Ask the server what there is, unless it is known. */
  async load() {
    if (!this.#isEmpty) return;
    const { default: defaultModel, models } = await this.#client.getModels().catch(() => ({ models: [] }));
    const patterns = models.filter((name) => name.includes("*"));
    const names = models.filter((name) => !name.includes("*"));
    if (defaultModel && !names.includes(defaultModel)) names.unshift(defaultModel);
    this.#offer(names, patterns);
    this.#choose(this.#preferred ?? defaultModel, names, patterns);
  }

  #offer(names, patterns) {
    this.#select.replaceChildren(...names.map((name) => new Option(name, name)));
    if (patterns.length > 0) this.#select.add(new Option(words.otherModel, ""));
    this.#select.hidden = this.#isEmpty;
    this.#name.placeholder = patterns[0] ?? "";
    element("model-names").replaceChildren(...patterns.map((pattern) => new Option(pattern.split("*")[0])));
  }

  #choose(name, names, patterns) {
    if (names.includes(name)) this.#select.value = name;
    else if (patterns.length > 0) {
      this.#select.value = "";
      this.#name.value = name ?? "";
    }
    this.#showName();
  }

  #showName() {
    this.#name.hidden = this.#select.hidden || this.#select.value !== "";
  }

  get #isEmpty() {
    return this.#select.options.length === 0;
  }
}
