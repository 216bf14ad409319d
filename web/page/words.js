/** What the page says, in English and in Japanese; the browser's language chooses. */

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
    connecting: "Connecting…",
    sendingAgain: "The server cannot be reached. Trying again…",
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
      task_gone: "This answer is no longer on the server.",
      unanswered: "This message was not answered.",
      session_busy: "An earlier message of this conversation is still being answered.",
      store_unavailable: "The service is taking a short break.",
      unknown_model: "There is no such model.",
      model_not_found: "There is no such model.",
      context_too_long: "The conversation is too long for this model. Please start a new one.",
      content_refused: "The model's provider refused this content.",
      provider_refused_request: "The model's provider refused this message.",
      provider_refused_key: "The model's provider did not accept this server's key.",
      provider_over_quota: "The model is in great demand right now.",
      provider_unavailable: "The model cannot be reached right now.",
      provider_silent: "The model fell silent.",
      provider_cut: "The answer broke off.",
      time_limit: "The answer took too long.",
      413: "This message is too long.",
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
    connecting: "接続中…",
    sendingAgain: "サーバーに接続できません。再試行しています…",
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
      task_gone: "この回答はサーバーに残っていません。",
      unanswered: "このメッセージには回答できませんでした。",
      session_busy: "この会話では、前のメッセージにまだ回答中です。",
      store_unavailable: "サービスは一時的に利用できません。",
      unknown_model: "そのモデルはありません。",
      model_not_found: "そのモデルはありません。",
      context_too_long: "会話がこのモデルには長すぎます。新しい会話を始めてください。",
      content_refused: "モデルの提供元がこの内容を拒否しました。",
      provider_refused_request: "モデルの提供元がこのメッセージを拒否しました。",
      provider_refused_key: "モデルの提供元がこのサーバーのキーを受け付けませんでした。",
      provider_over_quota: "モデルが混み合っています。",
      provider_unavailable: "現在モデルに接続できません。",
      provider_silent: "モデルからの応答が途絶えました。",
      provider_cut: "回答が途中で途切れました。",
      time_limit: "回答に時間がかかりすぎました。",
      413: "このメッセージは長すぎます。",
      422: "このメッセージはこのままでは送信できません。",
      429: "短時間に送信されたメッセージが多すぎます。",
      503: "現在サービスが混み合っています。",
      other: "問題が発生しました。",
    },
  },
};

export const language = navigator.language.toLowerCase().startsWith("ja") ? "ja" : "en";
export const words = WORDS[language];

const wholeNumber = new Intl.NumberFormat(language);
const tenths = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** The line below an answer that is still coming. */
export function runningNote({ state, taskId, transcript }, isStopping) {
  if (isStopping) return words.stopping;
  if (state === "running") return transcript.content ? words.answering : words.thinking;
  if (state === "reconnecting" && taskId === null) return words.sendingAgain;
  if (state === "queued" && transcript.queue?.position > 0) {
    return words.queuedAt(wholeNumber.format(transcript.queue.position));
  }
  return words[state] ?? "";
}

/**
 * The line below an answer that has ended. A failed one has none: what is wrong stands below it, see `faultWords`.
 * @param {string} status
 * @param {{transcript: object, firstTokenMs: number | null}} [seen] where this page saw the answer come
 */
export function closingNote(status, { transcript, firstTokenMs } = {}) {
  if (status === "failed") return "";
  const parts = status === "cancelled" ? [words.cancelled] : [];
  const { timings, usage, model } = transcript ?? {};
  const firstMs = firstTokenMs ?? (timings?.first_token_ms ?? NaN) + (timings?.queue_ms ?? 0);
  if (Number.isFinite(firstMs)) parts.push(words.firstToken(tenths.format(firstMs / 1000)));
  const count = usage?.output_tokens;
  if (count !== undefined) parts.push((usage.estimated ? "≈ " : "") + words.tokens(wholeNumber.format(count)));
  if (parts.length > 0 && model) parts.push(model);
  return parts.join(" · ");
}

/** A problem in words: by its code, else by its status. */
export function faultWords(problem) {
  const { faults } = words;
  const said = faults[problem?.code] ?? faults[problem?.status] ?? faults.other;
  const delay = Math.ceil(problem?.retry_after_seconds ?? 0);
  if (delay === 0) return said;
  return [said, words.retryIn(wholeNumber.format(delay))].join(language === "ja" ? "" : " ");
}

/** For a code that has no words here, what the server says: the fields at fault, or its own sentence. */
export function faultDetail(problem) {
  if (!problem || problem.code in words.faults) return "";
  const fields = problem.errors?.map(({ path, message }) => [path, message].filter(Boolean).join(": "));
  return fields?.join("; ") || problem.detail || "";
}
