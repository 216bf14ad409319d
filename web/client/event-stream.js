/**
 * Bytes of `text/event-stream` to events, as the WHATWG HTML standard parses them (9.2.6).
 *
 * Reads what one connection sent, in pieces split anywhere; a new connection takes a new parser.
 *
 * Deliberate:
 * 1. An event carries the `id` of its own block or null. EventSource repeats the last id on events without
 *    one, which would make a `failed` without id look like an entry already seen.
 * 2. A lone CR ends its line at once, and an LF that comes next, perhaps in the next piece, belongs to it:
 *    waiting for it would hold back the last event.
 */

const LINE_END = /\r\n|\r|\n/g;
const BYTE_ORDER_MARK = "\uFEFF";

/**
 * @typedef {object} StreamEvent
 * @property {string} type `message` where the block names none
 * @property {string} data the block's data lines, joined by LF
 * @property {string | null} id the block's own id
 */

export class EventStreamParser {
  /** @type {number | null} the last `retry:` of this connection, in milliseconds */
  retryMs = null;

  // The mark is stripped below: decoders differ about one that is split between two pieces.
  #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #rest = "";
  #begun = false;
  #afterCarriageReturn = false;
  #type = "";
  #data = [];
  #id = null;

  /**
   * Take the next bytes; return the events that they complete, in order.
   *
   * An unfinished block at the end of a connection is never returned, as the standard asks.
   * @param {Uint8Array} bytes
   * @returns {StreamEvent[]}
   */
  push(bytes) {
    const text = this.#decode(bytes);
    if (text === "") return [];
    const events = [];
    const buffer = this.#rest + text;
    let start = 0;
    LINE_END.lastIndex = this.#rest.length; // the rest was searched already
    for (let end = LINE_END.exec(buffer); end !== null; end = LINE_END.exec(buffer)) {
      this.#takeLine(buffer.slice(start, end.index), events);
      start = LINE_END.lastIndex;
    }
    this.#rest = buffer.slice(start);
    this.#afterCarriageReturn = text.endsWith("\r");
    return events;
  }

  #decode(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return text;
    if (!this.#begun && text.startsWith(BYTE_ORDER_MARK)) text = text.slice(1);
    this.#begun = true;
    if (this.#afterCarriageReturn && text.startsWith("\n")) text = text.slice(1);
    this.#afterCarriageReturn = false;
    return text;
  }

  #takeLine(line, events) {
    if (line === "") return this.#dispatch(events);
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    this.#takeField(field, value);
  }

  #takeField(field, value) {
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#type = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^[0-9]+$/.test(value)) this.retryMs = Number(value);
  }

  #dispatch(events) {
    if (this.#data.length > 0) {
      events.push({ type: this.#type || "message", data: this.#data.join("\n"), id: this.#id || null });
    }
    this.#type = "";
    this.#data = [];
    this.#id = null;
  }
}
