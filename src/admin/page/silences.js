// Silences: what is kept from the sinks for a while, though it is stored and shown like any other alert.

import { box, counted, el, fill, level, moment, say } from './dom.js';
import { address } from './state.js';
import { get, post } from './api.js';

const NAMES = ['rule', 'cluster', 'user', 'namespace', 'verb', 'object'];
const SPANS = [['1h', 'an hour'], ['4h', 'four hours'], ['1d', 'a day'], ['7d', 'a week'], ['30d', 'thirty days']];

function wanted(error) {
  if (error.status === 401) document.dispatchEvent(new CustomEvent('token-wanted', { detail: error.message }));
}

function values(alert) {
  const ref = alert.event.objectRef ?? {};
  return {
    rule: alert.rule.id,
    cluster: alert.cluster,
    user: alert.event.user.username,
    namespace: ref.namespace,
    verb: alert.event.verb,
    object: ref.resource && ref.name ? `${ref.resource}/${ref.name}` : undefined,
  };
}

// What the conditions would have hidden in the last week.
async function preview(place, conditions) {
  if (!Object.keys(conditions).length) {
    fill(place, el('p', { class: 'bad small' }, 'Choose at least one condition: without any it would be everything.'));
    return;
  }
  const query = new URLSearchParams({ ...conditions, since: '7d' });
  try {
    const [figures, page] = await Promise.all([
      get('/api/v1/figures', new URLSearchParams({ ...conditions, since: '7d', bars: 1 })),
      get('/api/v1/alerts', new URLSearchParams({ ...conditions, since: '7d', limit: 5 })),
    ]);
    if (place.dataset.asked !== query.toString()) return;
    const worst = figures.levels.findLastIndex((count) => count > 0);
    fill(place,
      el('p', { class: 'small' }, `In the last week this would have hidden ${counted(figures.total, 'alert')}`, worst >= 3 && el('b', { class: 'bad' }, ', some of them high or critical'), '.'),
      el('ul', { class: 'list small' }, page.alerts.map((alert) => el('li', {}, level(alert.rule.level), ' ', moment(alert.time), ' ', alert.summary))));
  } catch (error) {
    fill(place, el('p', { class: 'bad small' }, error.message));
  }
}

export function silence(alert) {
  const known = values(alert);
  const chosen = new Set(['rule', 'user', 'namespace'].filter((name) => known[name]));
  const place = el('div', { 'aria-live': 'polite' });
  const conditions = () => Object.fromEntries(NAMES.filter((name) => chosen.has(name)).map((name) => [name, known[name]]));
  const look = () => {
    place.dataset.asked = new URLSearchParams({ ...conditions(), since: '7d' }).toString();
    preview(place, conditions());
  };
  const checks = NAMES.filter((name) => known[name]).map((name) => el('label', { class: 'check' },
    el('input', {
      type: 'checkbox', checked: chosen.has(name),
      onchange: (event) => { chosen[event.target.checked ? 'add' : 'delete'](name); look(); },
    }),
    el('span', {}, el('b', {}, name), ' ', name === 'rule' ? alert.rule.title || known.rule : known[name])));
  const reason = el('input', { id: 'reason', required: true, maxlength: 4000, autocomplete: 'off' });
  const lasts = el('select', { id: 'lasts' }, SPANS.map(([value, text]) => el('option', { value, selected: value === '4h' }, text)));
  const wrong = el('p', { class: 'bad small', role: 'alert' });
  const submit = async (event) => {
    event.preventDefault();
    try {
      await post('/api/v1/silences', { conditions: conditions(), reason: reason.value, lasts: lasts.value });
      document.getElementById('box').close();
      say('New alerts like this one are kept from the sinks.');
    } catch (error) {
      fill(wrong, error.message);
      wanted(error);
    }
  };
  box('Silence alerts like this one',
    el('p', { class: 'soft small' }, 'New alerts for which all of this holds are stored and shown, but no sink is told. What a sink was told already still ends there.'),
    el('form', { onsubmit: submit },
      el('fieldset', {}, el('legend', {}, 'All of these hold'), checks),
      place,
      el('p', {}, el('label', { for: 'lasts' }, 'For '), lasts),
      el('p', {}, el('label', { for: 'reason' }, 'Why, for the others '), reason),
      wrong,
      el('button', { class: 'main', type: 'submit' }, 'Silence')));
  look();
  reason.focus();
}

function about(conditions, titles) {
  return NAMES.filter((name) => conditions[name]).map((name) => el('div', {}, el('b', {}, name), ' ', (name === 'rule' && titles.get(conditions.rule)) || conditions[name]));
}

function row(one, titles, again, may) {
  const hidden = el('a', { href: address({ ...one.conditions, range: 'all', silenced: 'true' }) }, counted(one.hidden, 'alert'));
  const end = async () => {
    try {
      await post(`/api/v1/silences/${one.id}/end`, {});
      say('Ended: new alerts are told again.');
      again();
    } catch (error) {
      if (error.status === 401) wanted(error);
      else box('That did not work', el('p', {}, error.message));
    }
  };
  const until = one.lasts ? ['until ', moment(one.expires, true)] : one.ended ? ['ended ', moment(one.ended, true), ` by ${one.ended_by}`] : ['ran out ', moment(one.expires, true)];
  return el('tr', { class: one.lasts ? null : 'soft' },
    el('td', {}, about(one.conditions, titles)),
    el('td', {}, one.reason, el('div', { class: 'soft small' }, one.who, ', ', moment(one.created, true))),
    el('td', {}, until),
    el('td', {}, hidden),
    el('td', {}, one.lasts && el('button', { type: 'button', onclick: end, disabled: !may, 'data-key': `end-${one.id}` }, 'End now')));
}

// What people call the rules; those that are gone keep their ids.
async function titlesOf(ids, signal) {
  const asked = [...ids].slice(0, 20).map((id) => get(`/api/v1/rules/${encodeURIComponent(id)}`, null, signal).catch(() => ({})));
  return new Map((await Promise.all(asked)).filter((rule) => rule.title).map((rule) => [rule.id, rule.title]));
}

export async function show(view, session, again, signal) {
  const { silences } = await get('/api/v1/silences', null, signal);
  const may = session.role === 'editor' || session.token;
  const titles = await titlesOf(new Set(silences.map((one) => one.conditions.rule).filter(Boolean)), signal);
  document.title = 'Silences – Kubesiren';
  const heads = ['What', 'Why', 'How long', 'Hidden', 'End'].map((text) => el('th', { scope: 'col' }, text));
  fill(view, el('h1', {}, 'Silences'),
    el('p', { class: 'soft' }, 'A silence keeps new alerts from the sinks for a while. It hides nothing here. What is to be quiet for good belongs in a filter of the rules.'),
    silences.length
      ? el('div', { class: 'card' }, el('table', { class: 'stack' }, el('thead', {}, el('tr', {}, heads)), el('tbody', {}, silences.map((one) => row(one, titles, again, may)))))
      : el('div', { class: 'card empty' }, el('h2', {}, 'Nothing is silenced'), el('p', {}, 'Open an alert and choose “Silence…”: you are shown what would be hidden before it is.')));
}
