/** What is remembered over a reload: `{sessionId, model}`. Each tab has its own; a new tab takes over the last one's. */

const KEY = "ekiden";

export function remember(state) {
  const json = JSON.stringify(state);
  try {
    sessionStorage.setItem(KEY, json);
    localStorage.setItem(KEY, json);
  } catch {
    // Storage is full or forbidden: the page works, but a reload starts afresh.
  }
}

export function recall() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}
