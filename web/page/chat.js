/**
 * The chat page: what a person sees of AsyncChatClient.
 *
 * Reads the session's history and the running task's stream; keeps the session's id in the browser, so that a
 * reload finds both again. Text reaches the document as text nodes only, at most once per animation frame.
 */

import { AsyncChatClient } from "./client/async-chat-client.js";
import { Composer } from "./composer.js";
import { ConversationView } from "./conversation-view.js";
import { element } from "./elements.js";
import { recall, remember } from "./memory.js";
import { ModelChooser } from "./model-chooser.js";
import { closingNote, language, runningNote, words } from "./words.js";

//: A double click on Send must not stop what it has just sent.
const STOP_GUARD_MS = 500;

/** The answer that runs: {answer, view, question, model, sentAt, firstTokenMs, isStopping}. null while there is none. */
let current = null;
let isRestoring = false;
let frame = 0;

const client = new AsyncChatClient({
  baseUrl: "/api/async",
  onUpdate: (transcript, answer) => whenCurrent(answer, () => noteFirstToken(transcript)),
  onStateChange: (_, answer) => whenCurrent(answer, keep),
});
const models = new ModelChooser(client, { preferred: recall().model, onChange: keep });
const composer = new Composer({ onSend: ask, onStop: stop });
const conversation = new ConversationView({
  onExample: (text) => {
    if (current === null && !isRestoring) ask(text);
    composer.focus();
  },
});

start();

function start() {
  document.documentElement.lang = language;
  for (const holder of document.querySelectorAll("[data-word]")) holder.textContent = words[holder.dataset.word];
  element("new").title = words.newConversation;
  element("new").addEventListener("click", startNewConversation);
  models.load();
  paint();
  restore(recall().sessionId);
}

function ask(question) {
  conversation.addQuestion(question);
  answer({ question });
}

/** Let a question that stands on the page be answered. */
function answer({ question, idempotencyKey }) {
  conversation.removeRetryButtons();
  const model = models.chosen;
  const handle = client.sendMessage(question, model, { idempotencyKey });
  attach(handle, { question, model, view: conversation.addAnswer(), sentAt: performance.now() });
  conversation.followEnd();
}

function attach(handle, run) {
  current = { answer: handle, firstTokenMs: null, isStopping: false, ...run };
  keep();
  paint();
  handle.done.then((result) => whenCurrent(handle, () => finish(result)));
}

function finish({ status, problem }) {
  const run = current;
  paint();
  current = null;
  keep();
  paint();
  // The server no longer knows this conversation: the message starts a new one.
  if (problem?.status === 404 && run.answer.taskId === null && client.sessionId !== null) {
    leaveConversation();
    return ask(run.question);
  }
  const { transcript } = run.answer;
  const note = closingNote(status, { transcript, firstTokenMs: run.firstTokenMs });
  run.view.end({ status, problem, note, onRetry: () => retry(run) });
  conversation.keepUp();
  models.load();
}

function retry({ view, question, model, answer: handle }) {
  if (current !== null) return;
  view.remove();
  // What the server has not answered may have reached it all the same: under its key it is still one task.
  const isUnanswered = handle?.taskId === null && model === models.chosen;
  answer({ question, idempotencyKey: isUnanswered ? handle.idempotencyKey : undefined });
  composer.focus();
}

async function stop() {
  const run = current;
  if (run === null || run.isStopping || performance.now() - run.sentAt < STOP_GUARD_MS) return;
  run.isStopping = true;
  paint();
  composer.focus();
  await run.answer.stop().catch(() => {
    run.isStopping = false; // refused: the answer goes on
    paintSoon();
  });
}

function startNewConversation() {
  // Nobody could come back to this answer from here, so nobody should pay for its rest.
  current?.answer.stop().catch(() => {});
  current = null;
  leaveConversation();
  keep();
  paint();
  composer.focus();
}

function leaveConversation() {
  client.sessionId = null;
  conversation.clear();
}

async function restore(sessionId) {
  if (!sessionId) return conversation.welcome();
  isRestoring = true;
  paint();
  try {
    const session = await client.getSession(sessionId);
    client.sessionId = sessionId;
    showHistory(session);
  } catch (error) {
    if (!error.problem) throw error;
    if (error.problem.status === 404) conversation.welcome();
    else showRestoreFault(error.problem, sessionId);
  } finally {
    isRestoring = false;
    paint();
  }
}

function showHistory({ messages, active_task_id: activeTaskId }) {
  if (messages.length === 0) conversation.welcome();
  const answers = new Map(messages.filter(({ role }) => role === "assistant").map((one) => [one.task_id, one.content]));
  for (const { role, content: question, task_id: taskId, status } of messages) {
    if (role !== "user") continue;
    conversation.addQuestion(question);
    if (taskId === activeTaskId) attach(client.resume(taskId), { question, view: conversation.addAnswer() });
    else showEndedAnswer({ question, status, content: answers.get(taskId) });
  }
  conversation.followEnd();
}

function showEndedAnswer({ question, status, content }) {
  conversation.removeRetryButtons();
  const view = conversation.addAnswer();
  const onRetry = () => retry({ view, question });
  // The history does not say why an answer failed.
  const problem = { code: status === "gone" ? "task_gone" : content ? "provider_cut" : "unanswered" };
  view.end({ status: status === "gone" ? "failed" : status, content, problem, note: closingNote(status), onRetry });
}

function showRestoreFault(problem, sessionId) {
  const view = conversation.addAnswer();
  const onRetry = () => {
    view.remove();
    restore(sessionId);
  };
  view.end({ status: "failed", problem, note: "", onRetry });
}

function keep() {
  remember({ sessionId: client.sessionId, model: models.chosen });
}

function whenCurrent(handle, act) {
  if (handle !== current?.answer) return;
  act();
  paintSoon();
}

function noteFirstToken({ content, reasoning }) {
  if (current.firstTokenMs !== null || current.sentAt === undefined || (!content && !reasoning)) return;
  current.firstTokenMs = performance.now() - current.sentAt;
}

function paintSoon() {
  frame ||= requestAnimationFrame(paint);
}

function paint() {
  cancelAnimationFrame(frame);
  frame = 0;
  composer.paint({ isRunning: current !== null, isBlocked: isRestoring || (current?.isStopping ?? false) });
  if (current === null) return;
  current.view.show(current.answer.transcript, runningNote(current.answer, current.isStopping));
  conversation.keepUp();
}
