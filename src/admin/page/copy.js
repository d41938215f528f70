// What an alert becomes elsewhere: JSON, a filter that makes it quiet, a case that keeps it found.

import { box, el, say } from './dom.js';

// A value of a Sigma rule: stars, question marks and backslashes would mean more than themselves.
function literal(value) {
  return JSON.stringify(typeof value === 'string' ? value.replaceAll(/[\\*?]/g, '\\$&') : value);
}

// `members` are the rules of which the alert's is made, where it is a correlation: filters are for rules about single events.
export function asFilter(alert, members = []) {
  const event = alert.event;
  const ref = event.objectRef ?? {};
  const fields = [
    ['user.username', event.user.username],
    ['objectRef.namespace', ref.namespace],
    ['objectRef.resource', ref.resource],
    ['verb', event.verb],
  ].filter(([, value]) => value);
  return [
    '# Take away what is not needed: the fewer conditions, the more goes quiet.',
    `title: ${JSON.stringify(`${alert.rule.title}: expected of ${event.user.username ?? 'this client'}`)}`,
    'logsource: {product: kubernetes, service: audit}',
    'filter:',
    `  rules: [${(members.length ? members : [alert.rule.id]).map((id) => JSON.stringify(id)).join(', ')}]`,
    '  expected:',
    ...fields.map(([name, value]) => `    ${name}: ${literal(value)}`),
    '  condition: not expected',
    '',
  ].join('\n');
}

// Puts what was matched in a body back to where it stood. Lists on the way are left out: a path means any element of one.
function restore(event, path, value) {
  const keys = path.split('.').map((key) => key.replace(/\[-?\d+\]$/, ''));
  let at = event;
  for (const key of keys.slice(0, -1)) {
    if (['__proto__', 'constructor', 'prototype'].includes(key)) return;
    at[key] ??= {};
    if (typeof at[key] !== 'object') return;
    at = at[key];
  }
  at[keys.at(-1)] ??= value;
}

export function asCase(alert) {
  const event = structuredClone(alert.event);
  for (const name of ['auditID', 'stageTimestamp', 'stage']) delete event[name];
  for (const [path, value] of Object.entries(alert.matched ?? {})) {
    if (/^(requestObject|responseObject)\./.test(path)) restore(event, path, value);
  }
  const more = alert.count > 1 ? ['# The alert tells of several requests. For a correlation, say how many: events: [{times: 5, every: 10s, event: …}]'] : [];
  const rule = JSON.stringify(alert.rule.id);
  return [
    ...more,
    `base: ${JSON.stringify(event)}`,
    'cases:',
    `  - {name: ${JSON.stringify(alert.summary)}, rule: ${rule}, event: {}, fires: true}`,
    '  # Say for each condition a case in which that one alone is missing.',
    `  - {name: another kind of object, rule: ${rule}, event: {objectRef: {resource: widgets}}, fires: false}`,
    '',
  ].join('\n');
}

export function asJson(alert) {
  const { handling, silence, history, ...plain } = alert;
  return `${JSON.stringify(plain, null, 2)}\n`;
}

async function toClipboard(text, area) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without TLS, and off this machine, browsers have no clipboard but the old one.
    area.select();
    document.execCommand('copy');
  }
  say('Copied.');
}

export function offer(title, words, text) {
  const area = el('textarea', { readonly: true, rows: Math.min(18, text.split('\n').length + 1), class: 'mono', 'aria-label': title, spellcheck: 'false' });
  area.value = text;
  const node = box(title, el('p', { class: 'soft small' }, words), area,
    el('div', { class: 'row' }, el('button', { type: 'button', class: 'main', onclick: () => toClipboard(text, area) }, 'Copy')));
  node.querySelector('button.main').focus();
}
