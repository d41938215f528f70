// The alerts: filters, chart, the most frequent, and the list.

import { LEVELS, counted, el, fill, level, moment, number } from './dom.js';
import { FILTERS, RANGE, RANGES, address, filter, go, query } from './state.js';
import { get } from './api.js';
import { chart } from './chart.js';

export const PAGE = 50;
let known = new Set();
let shownQuery = null;

function option(value, text, chosen) {
  return el('option', { value, selected: value === chosen }, text);
}

function select(label, name, chosen, options) {
  const set = (event) => filter(name === 'range' ? { range: event.target.value, since: null, until: null } : { [name]: event.target.value || null });
  return el('label', {}, label, el('select', { name, onchange: set, 'data-key': `f-${name}` }, options.map(([value, text]) => option(value, text, chosen))));
}

function filters(state) {
  let typing;
  const search = el('input', {
    type: 'search', name: 'q', value: state.q ?? '', placeholder: 'a name, an address, a word…', autocomplete: 'off', 'data-key': 'f-q',
    oninput: (event) => {
      clearTimeout(typing);
      typing = setTimeout(() => go({ q: event.target.value.trim() || null, cursor: null }, true), 300);
    },
  });
  const zoomed = state.since || state.until;
  const ranges = Object.entries(RANGES);
  return el('form', { class: 'filters', role: 'search', onsubmit: (event) => event.preventDefault() },
    select('Time', 'range', zoomed ? 'zoom' : state.range ?? RANGE, zoomed ? [['zoom', 'Zoomed in'], ...ranges] : ranges),
    select('Level', 'level', state.level ?? '', [['', 'Any'], ...[...LEVELS].reverse().map((name) => [name, name === 'critical' ? 'critical' : `${name} and above`])]),
    select('Handling', 'handling', state.handling ?? '', [['', 'Any'], ['open', 'Open'], ['acknowledged', 'Acknowledged'], ['closed', 'Closed']]),
    select('Silenced', 'silenced', state.silenced ?? '', [['', 'Any'], ['false', 'No'], ['true', 'Yes']]),
    el('label', { class: 'search' }, 'Search in all values', search));
}

function chips(state, titles) {
  const set = FILTERS.filter((name) => state[name] && !['level', 'handling', 'silenced', 'q'].includes(name));
  const chip = (name, text, patch) => el('button', {
    type: 'button', class: 'chip', onclick: () => filter(patch), 'aria-label': `Take the filter ${name} ${text} away`, 'data-key': `chip-${name}`,
  }, el('b', {}, name), ` ${text} ✕`);
  const nodes = set.map((name) => chip(name, name === 'rule' ? titles.get(state.rule) ?? state.rule : state[name], { [name]: null }));
  if (state.since || state.until) {
    const text = `${state.since ?? '…'} – ${state.until ?? 'now'}`.replaceAll(/\.\d+Z/g, 'Z');
    nodes.unshift(chip('time', text, { since: null, until: null }));
  }
  const any = nodes.length || FILTERS.some((name) => state[name]);
  const clear = any && el('button', {
    type: 'button', class: 'chip', 'data-key': 'chip-all',
    onclick: () => filter(Object.fromEntries([...FILTERS, 'since', 'until'].map((name) => [name, null]))),
  }, 'Clear all filters');
  return el('div', { class: 'chips' }, nodes, clear);
}

// A value that can be filtered by.
export function pick(name, value, text = value) {
  if (!value) return null;
  return el('button', { type: 'button', class: 'plain', title: `Only ${name} ${value}`, onclick: () => filter({ [name]: value }) }, text);
}

function top(title, name, counts, total) {
  const rows = counts.map((one) => {
    const share = el('span', { class: 'share' });
    share.style.width = `${Math.round((100 * one.count) / Math.max(1, total))}%`;
    return el('li', {}, share, pick(name, one.value, one.title ?? one.value), el('span', {}, number(one.count)));
  });
  return el('div', {}, el('h3', {}, title), rows.length ? el('ol', {}, rows.slice(0, 7)) : el('p', { class: 'soft small' }, 'none'));
}

export function object(alert) {
  const ref = alert.event.objectRef ?? {};
  return ref.resource && ref.name ? `${ref.resource}/${ref.name}` : null;
}

function row(state, alert) {
  const ref = alert.event.objectRef ?? {};
  const fresh = known.size > 0 && !known.has(alert.id);
  const done = alert.handling === 'closed';
  const user = alert.event.user.username;
  const acting = alert.event.impersonatedUser?.username;
  return el('tr', { class: [fresh && 'new', done && 'done'].filter(Boolean).join(' ') || null },
    el('td', { class: 't-time mono' }, moment(alert.time)),
    el('td', { class: 't-level' }, level(alert.rule.level)),
    el('td', {},
      el('a', { class: 'title', href: address({ ...state, alert: alert.id }), 'data-alert': alert.id, 'data-key': `a-${alert.id}` }, alert.rule.title || alert.rule.id),
      alert.count > 1 && el('span', { class: 'soft' }, ` ×${number(alert.count)}`), ' ',
      alert.status === 'resolved' && el('span', { class: 'tag' }, 'over'), ' ',
      alert.handling && el('span', { class: 'tag' }, alert.handling), ' ',
      alert.silence && el('span', { class: 'tag' }, 'silenced'),
      el('div', { class: 'summary' }, alert.summary)),
    el('td', { class: 't-who' }, pick('user', user) ?? el('span', { class: 'soft' }, 'nobody'), acting && [' as ', pick('user', acting)]),
    el('td', { class: 't-where small' },
      pick('namespace', ref.namespace) ?? el('span', { class: 'soft' }, '–'),
      el('div', {}, pick('cluster', alert.cluster), ' · ', pick('verb', alert.event.verb))));
}

function table(state, alerts) {
  const head = (text, name) => el('th', { scope: 'col', class: name }, text);
  return el('table', { class: 'alerts' },
    el('thead', {}, el('tr', {}, head('Time', 't-time'), head('Level', 't-level'), head('What'), head('Who', 't-who'), head('Where', 't-where'))),
    el('tbody', {}, alerts.map((alert) => row(state, alert))));
}

function empty(state, figures) {
  const narrow = FILTERS.some((name) => state[name]) || state.since || state.until;
  if (state.cursor) return el('div', { class: 'empty' }, el('h2', {}, 'No older alerts'), el('p', {}, 'This is the end of the list.'));
  if (narrow) {
    return el('div', { class: 'empty' }, el('h2', {}, 'No alert answers these filters'),
      el('p', {}, 'Take one away above, or look at a longer time: ', el('button', { type: 'button', class: 'plain', onclick: () => filter({ range: 'all', since: null, until: null }) }, 'all there is'), '.'));
  }
  const span = (state.range ?? RANGE) === 'all' ? '' : ` in this time (${RANGES[state.range ?? RANGE]?.toLowerCase()})`;
  return el('div', { class: 'empty' }, el('h2', {}, `No alerts${span}`),
    el('p', {}, 'That is good news if events arrive. To be sure:'),
    el('ul', {},
      el('li', {}, el('a', { href: '/?view=health' }, 'Health'), ' shows the age of the newest event of each cluster.'),
      el('li', {}, 'Send a log: ', el('code', {}, 'kubesiren replay audit.log --webhook …/k8s-audit')),
      el('li', {}, 'See an attack being found: ', el('code', {}, 'kubesiren demo'))));
}

function pager(page, state) {
  return el('nav', { class: 'pager', 'aria-label': 'Pages' },
    state.cursor && el('button', { type: 'button', onclick: () => go({ cursor: null }), 'data-key': 'newest' }, '⇤ Newest'),
    page.next_cursor && el('button', { type: 'button', onclick: () => { go({ cursor: page.next_cursor }); scrollTo(0, 0); }, 'data-key': 'older' }, 'Older →'),
    el('span', { class: 'soft small' }, state.cursor ? 'An older page; it does not change by itself.' : `The newest ${page.alerts.length}`));
}

// Asks for what the address says and shows it.
export async function show(view, state, signal) {
  const asked = query(state);
  const listed = new URLSearchParams(asked);
  listed.set('limit', PAGE);
  if (state.cursor) listed.set('cursor', state.cursor);
  const [page, figures] = await Promise.all([
    get('/api/v1/alerts', listed, signal),
    get('/api/v1/figures', asked, signal),
  ]);
  if (shownQuery !== listed.toString()) known = new Set();
  shownQuery = listed.toString();
  const titles = new Map(figures.rules.map((rule) => [rule.value, rule.title]));
  // What somebody types in stays as it is.
  const typed = document.activeElement?.name === 'q' && view.contains(document.activeElement) ? document.activeElement : null;
  const at = typed && [typed.value, typed.selectionStart];
  fill(view,
    el('h1', { class: 'skip' }, 'Alerts'),
    filters(state),
    chips(state, titles),
    el('div', { class: 'over' },
      chart(figures, (since, until) => go({ since, until, cursor: null }), (name) => filter({ level: name })),
      el('div', { class: 'card tops' },
        top('Rules', 'rule', figures.rules, figures.total),
        top('Users', 'user', figures.users, figures.total),
        top('Namespaces', 'namespace', figures.namespaces, figures.total))),
    page.alerts.length
      ? el('div', { class: 'card' }, table(state, page.alerts), pager(page, state))
      : el('div', { class: 'card' }, empty(state, figures), state.cursor && pager(page, state)));
  if (typed) {
    const input = view.querySelector('input[name=q]');
    [input.value] = at;
    input.setSelectionRange(at[1], at[1]);
  }
  for (const alert of page.alerts) known.add(alert.id);
  const critical = figures.levels[4];
  document.title = critical ? `(${number(critical)}) Kubesiren` : 'Kubesiren';
  return counted(figures.total, 'alert');
}
