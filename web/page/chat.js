/**
 * The chat page: what a person sees of AsyncChatClient.
 *
 * Reads the session's history and the running task's stream; keeps the two ids in localStorage, so that a
 * reload finds both again. Text reaches the document as text nodes only, at most once per animation frame.
 */

import { AsyncChatClient } from "./client/async-chat-client.js";

const WORDS = {
  en: {
    model: "Model",
    otherModel: "Other…",
    newConversation: "New conversation",
    welcomeTitle: "What would you like to know?",
    welcomeText: "You can reload or close this page at any time: the answer runs on and will be here when you return.",
    examples: ["Explain what an ekiden race is", "Write a haiku about a long run", "Plan a weekend in Hakone"],
    yourMessage: "Your message",
    placeholder: "Write a message",
    hint: "Enter sends, Shift + Enter starts a new line",
    latest: "Latest",
    send: "Send",
    stop: "Stop",
    retry: "Try again",
    you: "You",
    answer: "Answer",
    reasoning: "Reasoning",
    connecting: "Sending…",
    queued: "Waiting in the queue…",
    queuedAt: (position) => `Waiting in the queue, position ${position}…`,
    thinking: "Thinking…",
    answering: "Answering…",
    reconnecting: "Connection lost. Reconnecting, nothing is lost…",
    stopping: "Stopping…",
    cancelled: "Stopped",
    firstToken: (seconds) => `First token after ${seconds} s`,
    tokens: (count) => (count === "1" ? "1 token" : `${count} tokens`),
    retryIn: (seconds) => `Please try again in ${seconds} s.`,
    faults: {
      unreachable: "The server cannot be reached. Please check your connection.",
      no_answer: "The server did not answer in time.",
      connection_lost: "The connection was lost before the answer began.",
      task_gone: "This answer is no longer on the server.",
      session_busy: "An earlier message of this conversation is still being answered.",
      store_unavailable: "The service is taking a short break.",
      model_not_found: "There is no such model.",
      context_too_long: "The conversation is too long for this model. Please start a new one.",
      content_refused: "The model's provider refused this content.",
      provider_over_quota: "The model is in great demand right now.",
      provider_unavailable: "The model cannot be reached right now.",
      provider_silent: "The model fell silent.",
      provider_cut: "The answer broke off.",
      422: "This message cannot be sent as it is.",
      429: "Too many messages in a short time.",
      503: "The service is busy right now.",
      other: "Something went wrong.",
    },
  },
  ja: {
    model: "モデル",
    otherModel: "その他…",
    newConversation: "新しい会話",
    welcomeTitle: "何を知りたいですか？",
    welcomeText: "いつ再読み込みしても、閉じても大丈夫です。回答は続き、戻ってきたときにここにあります。",
    examples: ["駅伝とはどんな競技ですか", "長距離走の俳句を詠んで", "箱根の週末旅行を計画して"],
    yourMessage: "メッセージ",
    placeholder: "メッセージを入力",
    hint: "Enter で送信、Shift + Enter で改行",
    latest: "最新へ",
    send: "送信",
    stop: "停止",
    retry: "再試行",
    you: "あなた",
    answer: "回答",
    reasoning: "思考の過程",
    connecting: "送信中…",
    queued: "順番を待っています…",
    queuedAt: (position) => `順番を待っています（${position} 番目）…`,
    thinking: "考えています…",
    answering: "回答中…",
    reconnecting: "接続が切れました。再接続しています（内容は失われません）…",
    stopping: "停止しています…",
    cancelled: "停止しました",
    firstToken: (seconds) => `最初のトークンまで ${seconds} 秒`,
    tokens: (count) => `${count} トークン`,
    retryIn: (seconds) => `${seconds} 秒後に再試行してください。`,
    faults: {
      unreachable: "サーバーに接続できません。通信状況をご確認ください。",
      no_answer: "サーバーからの応答がありませんでした。",
      connection_lost: "回答が始まる前に接続が切れました。",
      task_gone: "この回答はサーバーに残っていません。",
      session_busy: "この会話では、前のメッセージにまだ回答中です。",
      store_unavailable: "サービスは一時的に利用できません。",
      model_not_found: "そのモデルはありません。",
      context_too_long: "会話がこのモデルには長すぎます。新しい会話を始めてください。",
      content_refused: "モデルの提供元がこの内容を拒否しました。",
      provider_over_quota: "モデルが混み合っています。",
      provider_unavailable: "現在モデルに接続できません。",
      provider_silent: "モデルからの応答が途絶えました。",
      provider_cut: "回答が途中で途切れました。",
      422: "このメッセージはこのままでは送信できません。",
      429: "短時間に送信されたメッセージが多すぎます。",
      503: "現在サービスが混み合っています。",
      other: "問題が発生しました。",
    },
  },
};

const STORAGE_KEY = "ekiden";
//: A double click on Send must not stop what it has just sent.
const STOP_GUARD_MS = 500;
//: As near to the end as this, in pixels, the page keeps following the text.
const FOLLOW_PX = 48;

const language = navigator.language.toLowerCase().startsWith("ja") ? "ja" : "en";
const words = WORDS[language];
const wholeNumber = new Intl.NumberFormat(language);
const seconds = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

const element = (id) => document.getElementById(id);
const log = element("log");
const scroller = element("scroller");
const textarea = element("text");
const sendButton = element("send");
const modelSelect = element("model");
const modelName = element("model-name");

/** The answer that runs: {answer, view, question, sentAt, firstTokenMs}. null while there is none. */
let current = null;
let restoring = false;
let following = true;

const client = new AsyncChatClient({
  baseUrl: "/api/async",
  onUpdate: (transcript, answer) => whenCurrent(answer, () => noteFirstToken(transcript)),
  onStateChange: (_, answer) => whenCurrent(answer, remember),
});

start();

// ---- asking and answering

function ask(question, bubble = addUserMessage(question)) {
  removeRetryButtons();
  const view = addAnswer();
  attach(client.sendMessage(question, chosenModel()), { view, bubble, question, sentAt: performance.now() });
  followEnd();
}

function attach(answer, run) {
  current = { answer, firstTokenMs: null, stopping: false, ...run };
  remember();
  paintSoon();
  answer.done.then((result) => whenCurrent(answer, () => finish(result)));
}

function finish({ status, problem }) {
  const run = current;
  paint();
  current = null;
  remember();
  paintComposer();
  // The server no longer knows this conversation: the message starts a new one.
  if (problem?.status === 404 && run.answer.taskId === null && client.sessionId !== null) {
    leaveConversation();
    return ask(run.question);
  }
  run.view.end({ status, problem, note: closingNote(status, run), onRetry: () => retry(run) });
  if (following) followEnd();
  if (modelSelect.options.length === 0) loadModels();
}

function retry({ view, bubble, question }) {
  if (current !== null) return;
  view.remove();
  ask(question, bubble);
  focusTextarea();
}

async function stop() {
  const run = current;
  if (run === null || run.stopping || performance.now() - run.sentAt < STOP_GUARD_MS) return;
  run.stopping = true;
  paintSoon();
  focusTextarea();
  await run.answer.stop().catch(() => {
    run.stopping = false; // refused: the answer goes on
    paintSoon();
  });
}

function startNewConversation() {
  // Nobody could come back to this answer from here, so nobody should pay for its rest.
  current?.answer.stop().catch(() => {});
  current = null;
  leaveConversation();
  remember();
  paintComposer();
  focusTextarea();
}

function leaveConversation() {
  client.sessionId = null;
  log.replaceChildren();
  element("welcome").hidden = false;
}

function whenCurrent(answer, act) {
  if (answer !== current?.answer) return;
  act();
  paintSoon();
}

function noteFirstToken({ content, reasoning }) {
  if (current.firstTokenMs !== null || current.sentAt === undefined || (!content && !reasoning)) return;
  current.firstTokenMs = performance.now() - current.sentAt;
}

// ---- what is remembered over a reload

function remember() {
  const state = { sessionId: client.sessionId, taskId: current?.answer.taskId ?? null, model: chosenModel() ?? null };
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify(state));
  } catch {
    // Storage is full or forbidden: the page works, but a reload starts afresh.
  }
}

function recall() {
  try {
    return JSON.parse(localStorage.getItem(STORAGE_KEY)) ?? {};
  } catch {
    return {};
  }
}

async function restore({ sessionId }) {
  if (!sessionId) return (element("welcome").hidden = false);
  restoring = true;
  paintComposer();
  try {
    const session = await client.getSession(sessionId);
    client.sessionId = sessionId;
    showHistory(session, session.active_task_id ?? null);
  } catch (error) {
    if (!error.problem) throw error;
    if (error.problem.status === 404) element("welcome").hidden = false;
    else showRestoreFault(error.problem, { sessionId });
  } finally {
    restoring = false;
    paintComposer();
  }
}

function showHistory({ messages }, activeTaskId) {
  const answered = new Set(messages.filter(({ role }) => role === "assistant").map((message) => message.task_id));
  let turn = {};
  let active = {};
  for (const { role, content, task_id: taskId, status } of messages) {
    if (role === "user") turn = { question: content, bubble: addUserMessage(content) };
    if (taskId === activeTaskId) active = turn;
    else if (role === "assistant") showEndedAnswer({ status, content, turn });
    else if (!answered.has(taskId)) showEndedAnswer({ status, turn });
  }
  element("welcome").hidden = messages.length > 0;
  if (activeTaskId !== null) attach(client.resume(activeTaskId), { ...active, view: addAnswer() });
  followEnd();
}

function showEndedAnswer({ status, content, turn }) {
  removeRetryButtons();
  const view = addAnswer();
  view.end({ status, content, note: closingNote(status), onRetry: () => retry({ ...turn, view }) });
}

function showRestoreFault(problem, state) {
  const view = addAnswer();
  const onRetry = () => {
    view.remove();
    restore(state);
  };
  view.end({ status: "failed", problem, onRetry });
}

// ---- models

async function loadModels() {
  const { default: defaultModel, models } = await client.getModels().catch(() => ({ models: [] }));
  const names = models.filter((name) => !name.includes("*"));
  const patterns = models.filter((name) => name.includes("*"));
  if (defaultModel && !names.includes(defaultModel) && !defaultModel.includes("*")) names.unshift(defaultModel);
  modelSelect.replaceChildren(...names.map((name) => new Option(name, name)));
  if (patterns.length > 0) modelSelect.add(new Option(words.otherModel, ""));
  modelSelect.hidden = modelSelect.options.length === 0;
  modelName.placeholder = patterns[0] ?? "";
  element("model-names").replaceChildren(...patterns.map((pattern) => new Option(pattern.split("*")[0])));
  chooseModel(recall().model ?? defaultModel, { names, patterns });
}

function chooseModel(name, { names, patterns }) {
  if (names.includes(name)) modelSelect.value = name;
  else if (patterns.length > 0) {
    modelSelect.value = "";
    modelName.value = name ?? "";
  }
  showModelName();
}

function showModelName() {
  modelName.hidden = modelSelect.hidden || modelSelect.value !== "";
}

/** undefined leaves the choice to the server. */
function chosenModel() {
  if (modelSelect.options.length === 0) return recall().model ?? undefined;
  return modelSelect.value || modelName.value.trim() || undefined;
}

// ---- what is seen

let frame = 0;

function paintSoon() {
  frame ||= requestAnimationFrame(paint);
}

function paint() {
  cancelAnimationFrame(frame);
  frame = 0;
  paintComposer();
  if (current === null) return;
  current.view.show(current.answer.transcript, runningNote(current));
  if (following) followEnd();
}

function paintComposer() {
  const running = current !== null;
  const word = running ? words.stop : words.send;
  sendButton.classList.toggle("stops", running);
  sendButton.disabled = running ? current.stopping : restoring || textarea.value.trim() === "";
  if (element("send-word").textContent !== word) element("send-word").textContent = word;
}

function runningNote({ answer: { state, transcript }, stopping }) {
  if (stopping) return words.stopping;
  if (state === "running") return transcript.content ? words.answering : words.thinking;
  if (state === "queued" && transcript.queue?.position > 0) {
    return words.queuedAt(wholeNumber.format(transcript.queue.position));
  }
  return words[state] ?? "";
}

function closingNote(status, run) {
  if (status === "failed") return ""; // what is wrong stands below, in words
  const parts = status === "cancelled" ? [words.cancelled] : [];
  const { timings, usage, model } = run?.answer.transcript ?? {};
  const firstTokenMs = run?.firstTokenMs ?? (timings?.first_token_ms ?? NaN) + (timings?.queue_ms ?? 0);
  if (Number.isFinite(firstTokenMs)) parts.push(words.firstToken(seconds.format(firstTokenMs / 1000)));
  const count = usage?.output_tokens;
  if (count !== undefined) parts.push((usage.estimated ? "≈ " : "") + words.tokens(wholeNumber.format(count)));
  if (parts.length > 0 && model) parts.push(model);
  return parts.join(" · ");
}

function addUserMessage(content) {
  const bubble = make("article", { className: "user text" });
  bubble.setAttribute("aria-label", words.you);
  bubble.textContent = content;
  append(bubble);
  return bubble;
}

function addAnswer() {
  const article = make("article", { className: "answer" });
  article.setAttribute("aria-label", words.answer);
  article.setAttribute("aria-busy", "true");
  const reasoning = make("details", { className: "reasoning", hidden: true });
  const reasoningText = make("div", { className: "text" });
  reasoning.append(make("summary", { textContent: words.reasoning }), reasoningText);
  const text = make("div", { className: "text" });
  const status = make("p", { className: "status" });
  article.append(reasoning, text, status);
  append(article);

  function show(transcript, note) {
    reasoning.hidden = transcript.reasoning === "";
    setText(reasoningText, transcript.reasoning);
    setText(text, transcript.content);
    if (status.textContent !== note) status.textContent = note;
  }

  function end({ status: ending, content, problem, note = "", onRetry }) {
    if (content !== undefined) setText(text, content);
    status.textContent = note;
    if (ending === "failed") article.append(makeFault(problem, onRetry));
    article.setAttribute("aria-busy", "false");
  }

  return { show, end, remove: () => article.remove() };
}

function makeFault(problem, onRetry) {
  const fault = make("div", { className: "fault" });
  const inWords = make("div", { className: "fault-words" });
  inWords.append(make("p", { textContent: faultWords(problem) }));
  const details = problem?.errors?.map(({ path, message }) => [path, message].filter(Boolean).join(": "));
  const detail = details?.join("; ") || (problem && !(problem.code in words.faults) && problem.detail);
  if (detail) inWords.append(make("p", { className: "fault-detail", textContent: detail }));
  fault.append(inWords);
  if (onRetry) {
    const button = make("button", { type: "button", className: "quiet", textContent: words.retry });
    button.addEventListener("click", onRetry);
    fault.append(button);
  }
  return fault;
}

/** Only the last question may be asked again: its answer belongs at the end. */
function removeRetryButtons() {
  for (const button of log.querySelectorAll(".fault button")) button.remove();
}

function faultWords(problem) {
  const { faults } = words;
  const said = faults[problem?.code] ?? faults[problem?.status] ?? faults.other;
  const delay = Math.ceil(problem?.retry_after_seconds ?? 0);
  if (delay === 0) return said;
  return [said, words.retryIn(wholeNumber.format(delay))].join(language === "ja" ? "" : " ");
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

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

function append(article) {
  element("welcome").hidden = true;
  log.append(article);
}

function followEnd() {
  following = true;
  element("latest").hidden = true;
  scroller.scrollTop = scroller.scrollHeight;
}

// ---- what is done

/** Enter that confirms an input method's candidate is not for us; Safari tells by keyCode 229 only. */
function sends(event) {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
}

function submit() {
  const question = textarea.value.trim();
  if (question === "" || current !== null || restoring) return;
  textarea.value = "";
  fitTextarea();
  ask(question);
}

/** Not on a phone, where it would open the keyboard over the answer. */
function focusTextarea() {
  if (matchMedia("(hover: hover)").matches) textarea.focus({ preventScroll: true });
}

function fitTextarea() {
  if (CSS.supports("field-sizing", "content")) return;
  textarea.style.height = "auto";
  textarea.style.height = `${textarea.scrollHeight}px`;
}

function listen() {
  element("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  sendButton.addEventListener("click", (event) => {
    if (current === null) return;
    event.preventDefault();
    stop();
  });
  textarea.addEventListener("keydown", (event) => {
    if (!sends(event)) return;
    event.preventDefault();
    submit();
  });
  textarea.addEventListener("input", () => {
    fitTextarea();
    paintComposer();
  });
  element("new").addEventListener("click", startNewConversation);
  element("latest").addEventListener("click", followEnd);
  modelSelect.addEventListener("change", () => {
    showModelName();
    if (!modelName.hidden) modelName.focus();
    remember();
  });
  modelName.addEventListener("change", remember);
  scroller.addEventListener(
    "scroll",
    () => {
      following = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < FOLLOW_PX;
      element("latest").hidden = following;
    },
    { passive: true },
  );
  new ResizeObserver(() => following && followEnd()).observe(scroller);
}

function speak() {
  document.documentElement.lang = language;
  for (const holder of document.querySelectorAll("[data-word]")) holder.textContent = words[holder.dataset.word];
  textarea.placeholder = words.placeholder;
  element("new").title = words.newConversation;
  modelName.setAttribute("aria-label", words.model);
  for (const example of words.examples) {
    const button = make("button", { type: "button", textContent: example });
    button.addEventListener("click", () => {
      textarea.value = example;
      submit();
      focusTextarea();
    });
    element("examples").append(button);
  }
}

function start() {
  speak();
  listen();
  paintComposer();
  loadModels();
  restore(recall());
}
