// Asking the listener. A token is kept for as long as the tab lives, and sent only where it is needed.

const KEY = 'kubesiren-token';

export class Wrong extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

async function ask(path, options) {
  const headers = { accept: 'application/json', ...options.headers };
  if (token.get()) headers.authorization = `Bearer ${token.get()}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: 'no-store', redirect: 'error' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Wrong(0, 'Kubesiren does not answer. Is the daemon running, and is the port still forwarded?');
  }
  const text = await answer.text();
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Wrong(answer.status, `Something between here and Kubesiren answered ${answer.status}, and not with JSON.`);
  }
  if (!answer.ok) throw new Wrong(answer.status, value.error ?? `answered ${answer.status}`);
  return value;
}

export function get(path, query, signal) {
  const text = query ? query.toString() : '';
  return ask(text ? `${path}?${text}` : path, { signal });
}

export function post(path, body) {
  return ask(path, { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
}

const POLL = 10_000;
const AGAIN = 2000;

// Names the messages of a stream, as server-sent events are written. An EventSource could not bear a token.
async function follow(told) {
  const headers = { accept: 'text/event-stream' };
  if (token.get()) headers.authorization = `Bearer ${token.get()}`;
  const answer = await fetch('/api/v1/stream', { headers, cache: 'no-store', redirect: 'error' });
  if (!answer.ok) throw new Wrong(answer.status, `answered ${answer.status}`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) if (line.startsWith('event: ')) told(line.slice(7).trim());
  }
}

// Calls `changed` when there is something new, and `live` with whether it is told at once. Where that does not work it asks
// from time to time. Answers what tries again at once.
export function listen(changed, live) {
  let polling;
  let wake = () => {};
  const told = (name) => {
    if (name === 'ready') {
      clearInterval(polling);
      polling = undefined;
      live(true);
    }
    if (name === 'ready' || name === 'alerts') changed();
  };
  const connect = async () => {
    let pause = AGAIN;
    try {
      await follow(told);
    } catch (error) {
      // Who was refused asks less often.
      if (error instanceof Wrong) pause = POLL;
    }
    live(false);
    polling ??= setInterval(changed, POLL);
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, pause);
    });
    connect();
  };
  connect();
  return () => wake();
}
