// One alert: who did what to what, when, from where, why it is told, and what to do.

import { box, counted, el, fill, level, moment, number, outside, isWeb, say, span } from './dom.js';
import { address, filter, go, read } from './state.js';
import { get, post } from './api.js';
import { asCase, asFilter, asJson, offer } from './copy.js';
import { object, pick } from './list.js';
import { silence } from './silences.js';

const node = document.getElementById('detail');
let shown = null;

function pair(name, ...value) {
  const parts = value.flat(Infinity).filter((part) => part !== null && part !== undefined && part !== false && part !== '');
  return parts.length ? [el('dt', {}, name), el('dd', {}, parts)] : null;
}

function commas(nodes) {
  return nodes.filter(Boolean).flatMap((one, at) => (at ? [', ', one] : [one]));
}

function facts(alert) {
  const event = alert.event;
  const ref = event.objectRef ?? {};
  const acting = event.impersonatedUser;
  const status = event.responseStatus ?? {};
  const name = object(alert);
  const kind = [ref.resource, ref.subresource].filter(Boolean).join('/');
  const long = new Date(alert.last_seen) - new Date(alert.first_seen);
  return el('dl', {},
    pair('Who', pick('user', event.user.username) ?? 'nobody who was known', acting && [' acting as ', pick('user', acting.username)],
      event.user.groups?.length > 0 && el('div', { class: 'soft small' }, event.user.groups.join(', '))),
    pair('What', pick('verb', event.verb), ` ${kind}`, name && [' ', pick('object', name, ref.name)],
      el('div', { class: 'mono small soft' }, event.requestURI)),
    pair('Where', pick('cluster', alert.cluster), ref.namespace && [', namespace ', pick('namespace', ref.namespace)]),
    pair('When', moment(alert.time, true), alert.count > 1 && [` · ${number(alert.count)} requests within ${span(Math.max(1, long / 1000))}, the last at `, moment(alert.last_seen)]),
    pair('From', commas((event.sourceIPs ?? []).map((address) => el('button', { type: 'button', class: 'plain mono', onclick: () => filter({ q: address }) }, address))),
      event.userAgent && el('div', { class: 'mono small soft' }, event.userAgent)),
    pair('Result', status.code && `${status.code}${status.reason ? ` ${status.reason}` : ''}`),
    pair('State', alert.status === 'firing' ? 'goes on' : 'over', alert.handling && `, ${alert.handling}`, alert.silence && [', kept from the sinks by ', el('a', { href: '/?view=silences' }, `silence ${alert.silence}`)]),
    pair('Audit IDs', el('span', { class: 'mono small' }, (alert.audit_ids ?? []).join(' '))));
}

function shownValue(value) {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function why(alert) {
  const rows = Object.entries(alert.matched ?? {});
  const group = Object.entries(alert.group ?? {}).filter(([, value]) => value !== null);
  return el('section', {}, el('h3', {}, 'Why it fired'),
    el('p', { class: 'small' }, 'The rule ', pick('rule', alert.rule.id, alert.rule.title || alert.rule.id), ' was true of these values:'),
    rows.length
      ? el('table', { class: 'why small stack' }, el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'Field'), el('th', { scope: 'col' }, 'Value'))),
        el('tbody', {}, rows.map(([name, value]) => el('tr', {}, el('td', { class: 'mono' }, name), el('td', { class: 'mono' }, shownValue(value))))))
      : el('p', { class: 'soft small' }, 'The rule asks for no values.'),
    written(alert.rule.id),
    group.length > 0 && el('p', { class: 'soft small' }, 'One alert for each ', group.map(([name, value]) => `${name} = ${shownValue(value)}`).join(', ')));
}

// The rule as it is written, asked for when somebody wants to see it.
function written(id) {
  const place = el('div', {});
  const look = async (event) => {
    if (!event.target.open || place.firstChild) return;
    try {
      const rule = await get(`/api/v1/rules/${encodeURIComponent(id)}`);
      fill(place, el('p', { class: 'soft small' }, rule.file), el('pre', { tabindex: 0 }, rule.text));
    } catch (error) {
      fill(place, el('p', { class: 'small' }, error.status === 404 ? 'This rule is not in use any more.' : error.message));
    }
  };
  return el('details', { class: 'small', ontoggle: look }, el('summary', {}, 'The rule as it is written'), place);
}

// `attack.t1552.007` names a technique, `attack.credential-access` a tactic.
function attack(tags) {
  const known = tags.filter((tag) => /^attack\./i.test(tag));
  if (!known.length) return null;
  const links = known.map((tag) => {
    const technique = /^attack\.(t\d{4})(?:\.(\d{3}))?$/i.exec(tag);
    if (!technique) return el('span', { class: 'tag' }, tag.slice(7).replaceAll(/[-_]/g, ' '));
    const [, id, sub] = technique;
    const path = sub ? `${id.toUpperCase()}/${sub}` : id.toUpperCase();
    return outside(`https://attack.mitre.org/techniques/${path}/`, path.replace('/', '.'));
  });
  return el('section', {}, el('h3', {}, 'MITRE ATT&CK'), el('div', { class: 'row' }, links));
}

function todo(rule) {
  const references = (rule.references ?? []).filter((reference) => !reference.includes('attack.mitre.org'));
  if (!rule.runbook && !references.length) return null;
  return el('section', {}, el('h3', {}, 'What to do'),
    rule.runbook && el('p', {}, isWeb(rule.runbook) ? outside(rule.runbook, rule.runbook) : rule.runbook),
    references.length > 0 && el('ul', { class: 'small' }, references.map((reference) => el('li', {}, outside(reference)))));
}

function handling(alert, session) {
  const may = session.role === 'editor' || session.token;
  const note = el('textarea', { id: 'note', maxlength: 4000, rows: 2, disabled: !may });
  const act = async (action) => {
    try {
      show(await post(`/api/v1/alerts/${encodeURIComponent(alert.id)}/handling`, { action, note: note.value }));
      say(action === 'note' ? 'Noted.' : `Done: ${action}.`);
    } catch (error) {
      refused(error);
    }
  };
  const button = (action, text, main) => el('button', { type: 'button', class: main ? 'main' : null, disabled: !may, onclick: () => act(action) }, text);
  const history = (alert.history ?? []).map((deed) => el('li', { class: 'small' },
    moment(deed.at), ' ', el('b', {}, deed.who), ' ', deed.handling ? (deed.handling === 'open' ? 'opened it again' : `${deed.handling} it`) : 'noted', deed.note && `: ${deed.note}`));
  const state = alert.handling ?? 'open';
  return el('section', {}, el('h3', {}, 'Handling'),
    history.length > 0 && el('ul', { class: 'list' }, history),
    el('label', { for: 'note', class: 'small soft' }, 'A note for the others'), note,
    el('div', { class: 'row' },
      state === 'open' && button('acknowledge', 'Acknowledge', true),
      state !== 'closed' && button('close', 'Close'),
      state !== 'open' && button('reopen', 'Open again'),
      button('note', 'Only note'),
      el('button', { type: 'button', disabled: !may, onclick: () => silence(alert) }, 'Silence…')),
    !may && el('p', { class: 'soft small' }, 'You may read only.'));
}

function refused(error) {
  if (error.status === 401) document.dispatchEvent(new CustomEvent('token-wanted', { detail: error.message }));
  else box('That did not work', el('p', {}, error.message));
}

function others(title, alerts) {
  if (!alerts.length) return null;
  const state = read();
  const rows = alerts.slice(0, 10).map((alert) => el('li', {}, level(alert.rule.level), ' ', moment(alert.time), ' ',
    el('a', { href: address({ ...state, alert: alert.id }), 'data-alert': alert.id }, alert.rule.title || alert.rule.id),
    el('div', { class: 'soft small' }, alert.summary)));
  return [el('h3', {}, title), el('ul', { class: 'list' }, rows),
    alerts.length > 10 && el('p', { class: 'soft small' }, `and ${counted(alerts.length - 10, 'more alert')}`)];
}

async function related(alert, place) {
  try {
    const { user, object: same } = await get(`/api/v1/alerts/${encodeURIComponent(alert.id)}/related`);
    if (shown !== alert.id) return;
    const known = new Set(same.map((one) => one.id));
    const parts = [others('The same object, within a day', same), others('The same user, within a day', user.filter((one) => !known.has(one.id)))];
    fill(place, parts.some(Boolean) ? parts : [el('h3', {}, 'Related'), el('p', { class: 'soft small' }, 'Nothing else of this user or about this object within a day.')]);
  } catch (error) {
    fill(place, el('p', { class: 'notice wrong small' }, error.message));
  }
}

let session = { role: 'reader' };

export function setSession(known) {
  session = known;
}

function show(alert) {
  shown = alert.id;
  const place = el('section', {}, el('p', { class: 'soft small' }, 'Looking for related alerts…'));
  fill(node,
    el('div', { class: 'top' }, el('h2', { id: 'detail-title' }, level(alert.rule.level), ' ', alert.rule.title || alert.rule.id),
      el('button', { type: 'button', 'aria-label': 'Close', onclick: close, 'data-key': 'close' }, '✕')),
    el('p', {}, alert.summary),
    facts(alert),
    todo(alert.rule),
    why(alert),
    handling(alert, session),
    place,
    attack(alert.rule.tags ?? []),
    el('section', {}, el('h3', {}, 'Take it elsewhere'), el('div', { class: 'row' },
      el('button', { type: 'button', onclick: () => offer('The alert as JSON', 'As sinks and the API show it.', asJson(alert)) }, 'As JSON'),
      el('button', { type: 'button', onclick: () => filterOf(alert) }, 'As filter'),
      el('button', { type: 'button', onclick: () => caseOf(alert) }, 'As test case'))));
  if (!node.open) node.showModal();
  related(alert, place);
}

// What is known of the rule that is in use; nothing where it is not any more.
const ruleOf = (alert) => get(`/api/v1/rules/${encodeURIComponent(alert.rule.id)}`).catch(() => ({}));

async function caseOf(alert) {
  const rule = await ruleOf(alert);
  offer('A test case', 'Put it beside the rule as NAME.test.yml, and run kubesiren rules test. Of bodies only the values that matched are known.', asCase(alert, rule));
}

async function filterOf(alert) {
  const rule = await ruleOf(alert);
  offer('A filter that makes it quiet', 'Put it into a file below one of detections.paths. The rules it names are then not true any more of events of which it is.',
    asFilter(alert, rule.members));
}

function close() {
  go({ alert: null });
}

node.addEventListener('cancel', (event) => {
  event.preventDefault();
  close();
});
// A click beside the drawer closes it.
node.addEventListener('click', (event) => {
  if (event.target === node && event.clientX < node.getBoundingClientRect().left) close();
});

// Shows the alert of the address, or none.
export async function follow(id) {
  if (!id) {
    const was = shown;
    shown = null;
    if (node.open) {
      node.close();
      document.querySelector(`[data-key="a-${CSS.escape(was ?? '')}"]`)?.focus({ preventScroll: true });
    }
    return;
  }
  if (id === shown && node.open) return;
  try {
    show(await get(`/api/v1/alerts/${encodeURIComponent(id)}`));
  } catch (error) {
    shown = id;
    fill(node, el('div', { class: 'top' }, el('h2', { id: 'detail-title' }, 'This alert cannot be shown'), el('button', { type: 'button', 'aria-label': 'Close', onclick: close }, '✕')),
      el('p', {}, error.status === 404 ? 'No alert has this id. Ended alerts are forgotten after journal.keep_alerts, 30 days where nothing else is said.' : error.message));
    if (!node.open) node.showModal();
  }
}
