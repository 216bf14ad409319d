/** RFC 9457 problems: those that the server sends, and those that only this side can see. */

/** Why a request failed. `problem.code` is stable; the words are for logs. */
export class ChatProblem extends Error {
  /** @param {object} problem */
  constructor(problem) {
    super(problem.detail ?? problem.title ?? problem.code);
    this.name = "ChatProblem";
    this.problem = problem;
  }
}

/** The codes that this client gives itself, and what they mean. */
const LOCAL_TITLES = {
  unreachable: "The server could not be reached",
  no_answer: "The server did not answer in time",
  task_gone: "The server no longer knows this task",
  bad_response: "The server sent something unexpected",
};

/**
 * @param {keyof LOCAL_TITLES} code
 * @param {object} [more]
 */
export function localProblem(code, more = {}) {
  return { type: "about:blank", title: LOCAL_TITLES[code], code, ...more };
}

/** Deleted, or older than its session's life. */
export function taskGone() {
  return localProblem("task_gone", { status: 404 });
}

/**
 * The problem in a response that is not ok; `retry_after_seconds` is added where only the header said it.
 * @param {Response} response
 */
export async function readProblem(response) {
  const body = await response.json().catch(() => null);
  const problem =
    typeof body?.code === "string" ? body : localProblem("bad_response", { detail: `HTTP ${response.status}` });
  const delayMs = retryAfterMs(response);
  const delay = delayMs === null ? {} : { retry_after_seconds: delayMs / 1000 };
  return { ...delay, ...problem, status: response.status };
}

/**
 * `Retry-After` in milliseconds: a number of seconds or a date. null where there is none.
 * @param {Response} response
 */
export function retryAfterMs(response) {
  const value = response.headers.get("Retry-After")?.trim();
  if (!value) return null;
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, date - Date.now());
}

/**
 * Statuses after which the same request may succeed later. Everything else is final.
 * @param {number} status
 */
export function isTransient(status) {
  return status >= 500 || status === 408 || status === 425 || status === 429;
}
