/** Times in milliseconds; a caller may change them, tests shorten them. */
export const DEFAULT_TIMING = Object.freeze({
  //: No byte for so long means a dead connection: the server pings every 15 s, this is three missed, less 5 s.
  silenceMs: 40_000,
  //: A request that is answered at once or not at all; it may be sent again.
  answerMs: 15_000,
  //: An unanswered message is sent again for so long; then the person is asked.
  sendMs: 60_000,
  //: First backoff; doubles to the maximum, full jitter, back to the first on progress.
  backoffMs: 1_000,
  backoffMaxMs: 15_000,
  //: A connection that lives so long without an event counts as restored, though the model is silent.
  restoredMs: 1_000,
  //: A tab shown again reconnects at once if nothing came for longer than a ping's interval.
  staleMs: 20_000,
  //: The longest that a server's own `retry:` or `Retry-After` is obeyed.
  serverDelayMaxMs: 600_000,
});
