/** What a browser knows about the network and the tab; silent where there is no browser, as in Node. */

/**
 * @param {{onOnline: () => void, onVisible: () => void}} listeners
 * @returns {() => void} stops listening
 */
export function listenToTheBrowser({ onOnline, onVisible }) {
  const { window, document } = globalThis;
  const onVisibilityChange = () => document.visibilityState === "visible" && onVisible();
  window?.addEventListener("online", onOnline);
  document?.addEventListener("visibilitychange", onVisibilityChange);
  return () => {
    window?.removeEventListener("online", onOnline);
    document?.removeEventListener("visibilitychange", onVisibilityChange);
  };
}
