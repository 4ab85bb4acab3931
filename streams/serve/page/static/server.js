// Talks to the server: JSON requests, and server-sent events read with fetch, because EventSource sends no token.

const SLOWEST_RETRY_MS = 5000;
const SILENT_MS = 25_000; // the server sends something every 10 s

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The token for a right ("read" or "write"), as this tab keeps it. */
export function token(right) {
  return sessionStorage.getItem(`token:${right}`) ?? "";
}

export function keepToken(right, value) {
  if (value) sessionStorage.setItem(`token:${right}`, value);
  else sessionStorage.removeItem(`token:${right}`);
}

function headers(right) {
  return token(right) ? { Authorization: `Bearer ${token(right)}` } : {};
}

async function refusal(response) {
  const text = await response.text();
  try {
    const { error, results } = JSON.parse(text); // of events, each has its own reason
    return new Refused(response.status, results?.[0]?.error ?? error.message);
  } catch {
    return new Refused(response.status, `the server answers ${response.status}`);
  }
}

/** Send a request; returns the JSON of the answer, or null if it has none. */
export async function ask(right, path, { method = "GET", body, signal } = {}) {
  const sent = { method, headers: headers(right), signal, cache: "no-store" };
  if (body !== undefined) {
    sent.body = JSON.stringify(body);
    sent.headers["Content-Type"] = "application/json";
  }
  const response = await fetch(path, sent);
  if (!response.ok) throw await refusal(response);
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

/**
 * Follow a stream of server-sent events for ever, also across restarts of the server.
 * `on(event, data)` gets each message; `status(state, error)` gets "live", "waiting" or "refused".
 * Returns a function that ends it.
 */
export function follow(path, on, status) {
  const ending = new AbortController();
  (async () => {
    let retryMs = 250;
    while (!ending.signal.aborted) {
      try {
        await readOnce(path, (event, data) => {
          retryMs = 250;
          status("live");
          on(event, data);
        }, ending.signal);
      } catch (error) {
        if (ending.signal.aborted) return;
        if (error.status === 401 || error.status === 403) {
          status("refused", error);
          return;
        }
        status("waiting", error);
      }
      await new Promise((resume) => setTimeout(resume, retryMs));
      retryMs = Math.min(SLOWEST_RETRY_MS, retryMs * 1.6);
    }
  })();
  return () => ending.abort();
}

async function readOnce(path, on, ended) {
  const silent = new AbortController();
  const both = AbortSignal.any([ended, silent.signal]);
  let timer = setTimeout(() => silent.abort(), SILENT_MS);
  try {
    const sent = { headers: { Accept: "text/event-stream", ...headers("read") }, signal: both, cache: "no-store" };
    const response = await fetch(path, sent);
    if (!response.ok) throw await refusal(response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("the server ended the stream");
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENT_MS);
      const messages = (rest + value).split("\n\n");
      rest = messages.pop();
      for (const message of messages) deliver(message, on);
    }
  } finally {
    clearTimeout(timer);
    silent.abort(); // closes the connection
  }
}

function deliver(message, on) {
  let event = "message";
  let data = "";
  for (const line of message.split("\n")) {
    if (line.startsWith("event: ")) event = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (data) on(event, JSON.parse(data));
}
