// What is looked at stands in the address: it can be shared, kept, and gone back from.

export const FILTERS = ['level', 'handling', 'silenced', 'rule', 'cluster', 'user', 'namespace', 'verb', 'object', 'q'];
const OTHERS = ['view', 'range', 'since', 'until', 'alert', 'cursor'];
export const RANGES = { '1h': 'Last hour', '24h': 'Last day', '7d': 'Last week', '30d': 'Last month', all: 'All there is' };
export const RANGE = '24h';

export function read() {
  const given = new URLSearchParams(location.search);
  const state = {};
  for (const name of [...FILTERS, ...OTHERS]) {
    const value = given.get(name);
    if (value) state[name] = value;
  }
  return state;
}

export function address(state) {
  const given = new URLSearchParams();
  for (const name of ['view', 'range', 'since', 'until', ...FILTERS, 'cursor', 'alert']) {
    if (state[name]) given.set(name, state[name]);
  }
  const text = given.toString();
  return text ? `/?${text}` : '/';
}

let changed = () => {};

export function onChange(listener) {
  changed = listener;
  addEventListener('popstate', () => changed());
}

// Goes to where some things are other than now; null takes one away.
export function go(patch, replace = false) {
  const state = { ...read(), ...patch };
  history[replace ? 'replaceState' : 'pushState'](null, '', address(state));
  changed();
}

// The same for filters, which begin at the first page again.
export function filter(patch) {
  go({ cursor: null, alert: null, view: null, ...patch });
}

// The filters as the API wants them.
export function query(state) {
  const given = new URLSearchParams();
  const range = state.range ?? RANGE;
  if (state.since || state.until) {
    if (state.since) given.set('since', state.since);
    if (state.until) given.set('until', state.until);
  } else if (range !== 'all') {
    given.set('since', range);
  }
  for (const name of FILTERS) {
    if (state[name]) given.set(name, state[name]);
  }
  return given;
}
