/**
 * A task's events folded into what a person sees: pure, so that a page, a test and a replay agree.
 *
 * `fold(transcript, event)` returns the next transcript, or the very same object where the event changes
 * nothing: an entry already seen, a ping, anything after the end.
 */

/**
 * @typedef {object} Transcript
 * @property {string} content the answer's text so far; whole once `completed`
 * @property {string} reasoning the model's thinking so far
 * @property {"queued" | "running" | "completed" | "failed" | "cancelled" | null} status null before any event
 * @property {string | null} lastEventId the cursor: where to resume
 * @property {string | null} taskId
 * @property {string | null} sessionId
 * @property {string | null} model
 * @property {number} attempt 0 until a worker started
 * @property {object | null} queue `position, queue, priority, eta_ms` while waiting
 * @property {object | null} progress `done, total, note`
 * @property {object | null} usage
 * @property {object | null} timings
 * @property {string | null} finishReason
 * @property {object | null} problem of a `failed` task
 */

/** @type {Transcript} */
export const EMPTY_TRANSCRIPT = Object.freeze({
  content: "",
  reasoning: "",
  status: null,
  lastEventId: null,
  taskId: null,
  sessionId: null,
  model: null,
  attempt: 0,
  queue: null,
  progress: null,
  usage: null,
  timings: null,
  finishReason: null,
  problem: null,
});

const TERMINAL = new Set(["completed", "failed", "cancelled"]);

/** Not entries of the log, so never dropped by id; of these only `snapshot` moves the cursor. */
const OUTSIDE_THE_LOG = new Set(["queued", "ping", "resync", "reconnect", "snapshot"]);

/** @param {string | null} status */
export function isTerminal(status) {
  return TERMINAL.has(status);
}

/**
 * @param {Transcript} transcript
 * @param {{type: string, id: string | null, data: object}} event `data` is parsed already
 * @returns {Transcript}
 */
export function fold(transcript, { type, id, data }) {
  if (isTerminal(transcript.status)) return transcript;
  const isEntry = !OUTSIDE_THE_LOG.has(type);
  if (isEntry && isSeen(id, transcript.lastEventId)) return transcript;
  const change = CHANGES.get(type)?.(transcript, data);
  const lastEventId = id && (isEntry || type === "snapshot") ? id : transcript.lastEventId;
  if (!change && lastEventId === transcript.lastEventId) return transcript;
  return { ...transcript, ...change, lastEventId };
}

/**
 * Ids are `<epoch>-<seq>`, compared as two numbers; an id of any other form compares with nothing.
 * @param {string} left
 * @param {string} right
 * @returns {number} negative, 0, positive; NaN where one is no such id
 */
export function compareIds(left, right) {
  const [leftEpoch, leftSeq] = numbersOf(left);
  const [rightEpoch, rightSeq] = numbersOf(right);
  return leftEpoch === rightEpoch ? leftSeq - rightSeq : leftEpoch - rightEpoch;
}

/** A task's final state as the event that would have said so; without id, so never dropped. */
export function eventOfTask(task) {
  return { type: task.status, id: null, data: { ...task, partial: task.content } };
}

/** What each event changes; a type that is not here is ignored, but for its id. */
const CHANGES = new Map(
  Object.entries({
    created: (_, data) => ({
      status: "queued",
      taskId: data.task_id ?? null,
      sessionId: data.session_id ?? null,
      model: data.model ?? null,
    }),
    queued: (before, data) => (before.status === "running" ? null : { status: "queued", queue: data }),
    started: (before, data) => ({
      ...RUNNING,
      attempt: data.attempt ?? before.attempt,
      model: data.model ?? before.model,
    }),
    delta: (before, data) => ({ ...RUNNING, content: before.content + textOf(data.content) }),
    reasoning: (before, data) => ({ ...RUNNING, reasoning: before.reasoning + textOf(data.content) }),
    progress: (_, data) => ({ ...RUNNING, progress: data }),
    reset: (before, data) => ({
      ...RUNNING,
      content: textOf(data.content),
      reasoning: textOf(data.reasoning),
      attempt: data.attempt ?? before.attempt,
    }),
    snapshot: (before, data) => ({
      content: textOf(data.content),
      reasoning: textOf(data.reasoning),
      attempt: data.attempt ?? before.attempt,
      // A snapshot never holds a terminal entry: the event that ends the task follows it.
      status: data.status === "queued" ? "queued" : "running",
    }),
    completed: (before, data) => ({
      ...ended("completed", before, data),
      content: textOf(data.content, before.content),
      reasoning: textOf(data.reasoning, before.reasoning),
      finishReason: data.finish_reason ?? null,
    }),
    failed: (before, data) => ({
      ...ended("failed", before, data),
      content: textOf(data.partial, before.content),
      problem: data.problem ?? null,
    }),
    cancelled: (before, data) => ({
      ...ended("cancelled", before, data),
      content: textOf(data.partial, before.content),
    }),
  }),
);

const RUNNING = Object.freeze({ status: "running", queue: null });

function ended(status, before, data) {
  return {
    status,
    queue: null,
    usage: data.usage ?? before.usage,
    timings: data.timings ?? before.timings,
  };
}

function isSeen(id, lastEventId) {
  return Boolean(id && lastEventId) && (id === lastEventId || compareIds(id, lastEventId) <= 0);
}

function numbersOf(id) {
  const parts = /^(\d+)-(\d+)$/.exec(id);
  return parts === null ? [NaN, NaN] : [Number(parts[1]), Number(parts[2])];
}

function textOf(value, otherwise = "") {
  return typeof value === "string" ? value : otherwise;
}
