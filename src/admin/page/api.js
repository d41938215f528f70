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

// Calls `changed` when there is something new, and `live` with whether it is told at once. Where that does not work it asks
// from time to time.
export function listen(changed, live) {
  let source;
  let polling;
  const poll = () => {
    live(false);
    polling ??= setInterval(changed, POLL);
  };
  const connect = () => {
    source = new EventSource('/api/v1/stream');
    source.addEventListener('ready', () => {
      clearInterval(polling);
      polling = undefined;
      live(true);
      changed();
    });
    source.addEventListener('alerts', changed);
    source.onerror = () => {
      poll();
      // A browser tries again by itself unless it was refused.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, POLL);
    };
  };
  connect();
}
