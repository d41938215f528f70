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

// Under these, keys hold dots themselves.
const NAMED = ['annotations', 'labels', 'matchLabels', 'nodeSelector', 'extra', 'data', 'stringData', 'limits', 'requests'];

// The keys of a path, without its index. Lists on the way are left out: a path means any element of one.
function keysOf(path) {
  const parts = path.replace(/\[-?\d+\]$/, '').split('.');
  const at = parts.findIndex((part) => NAMED.includes(part));
  return at < 0 || at === parts.length - 1 ? parts : [...parts.slice(0, at + 1), parts.slice(at + 1).join('.')];
}

// What is matched of an event that is no path into it: `keywords`, and fields that are made of others.
function isPath(path) {
  return path !== 'keywords' && !/^(ka|jevt|evt)\./.test(path) && !path.endsWith('.decoded')
    && !keysOf(path).some((key) => ['__proto__', 'constructor', 'prototype'].includes(key));
}

// Puts a value where a path says, unless something stands there.
function restore(event, path, value) {
  const keys = keysOf(path);
  let at = event;
  for (const key of keys.slice(0, -1)) {
    // `true` stands for something that is there and has no value of its own: here is more of it.
    if (at[key] === undefined || at[key] === null || at[key] === true) at[key] = {};
    at = Array.isArray(at[key]) ? at[key][0] : at[key];
    if (typeof at !== 'object' || at === null) return;
  }
  at[keys.at(-1)] ??= value;
}

// Only this path, with this value.
function only(path, value) {
  return keysOf(path).reduceRight((below, key) => ({ [key]: below }), value);
}

// What was done: rules ask for it most certainly. They may ask for one of these or the other, so that all are changed together.
const DEED = ['verb', 'objectRef.resource', 'objectRef.subresource'];
const TELLING = ['responseStatus.code', 'objectRef.namespace', 'user.username', 'user.groups', 'userAgent'];

function other(value) {
  if (Array.isArray(value)) return ['something-else'];
  return typeof value === 'number' ? 418 : 'something-else';
}

// What was matched, changed in one respect: what to call it, and what it makes of the event. None where nothing can be changed.
function changed(matched) {
  const deed = DEED.filter((path) => path in matched);
  if (deed.length) return ['another request', deed.reduce((sum, path) => merged(sum, only(path, other(matched[path]))), {})];
  const telling = TELLING.find((path) => path in matched);
  if (telling) return [`another ${telling}`, only(telling, other(matched[telling]))];
  if ('requestURI.decoded' in matched) return ['another requestURI', { requestURI: '/something-else' }];
  // That it is there may be all that is asked: so it is taken away.
  const path = Object.keys(matched).find(isPath);
  return path ? [`without ${path}`, only(path, null)] : null;
}

// Another value of a field each time.
function numbered(event, path) {
  const value = keysOf(path).reduce((at, key) => at?.[key], event);
  const list = Array.isArray(value);
  const text = String((list ? value[0] : value) ?? 'value');
  const next = /^[\d.]+$|^[\da-f]*:[\da-f:.]*$/i.test(text) ? text.replace(/[\da-f]*$/i, '{n}') : `${text}-{n}`;
  return only(path, list ? [next] : next);
}

function merged(under, over) {
  const out = { ...under };
  for (const [key, value] of Object.entries(over)) {
    const both = typeof value === 'object' && typeof out[key] === 'object' && !Array.isArray(value) && value && out[key];
    out[key] = both ? merged(out[key], value) : value;
  }
  return out;
}

// The cases of a rule, and what has to be said of them. The rule is as the API tells of it; nothing where it is not in use any more.
function casesOf(alert, event, { kind = 'event', any = false, counts = [], least = null }) {
  const matched = alert.matched ?? {};
  const quiet = changed(matched);
  const other = quiet && [quiet[0], `event: ${JSON.stringify(quiet[1])}`];
  if (kind === 'event') {
    const words = 'keywords' in matched
      ? `TO BE COMPLETED: the text in which this was found is not kept, so put it into the event: ${[matched.keywords].flat().join(', ')}`
      : 'Say for each condition a case in which that one alone is missing.';
    return { fires: 'event: {}', quiet: other, words: [words] };
  }
  if (least !== null && !any) {
    const over = JSON.stringify(counts.reduce((sum, path) => merged(sum, numbered(event, path)), {}));
    const times = (number) => `events: [{times: ${number}, every: 1s, event: ${over}}]`;
    return {
      fires: times(least),
      quiet: least > 1 ? ['one less', times(least - 1)] : other,
      words: [`The alert counted ${alert.count}; ${least} are enough within the window of the rule.`],
    };
  }
  const steps = (alert.timeline ?? []).map((step) => `  ${step.rule.title}: ${step.summary}`);
  return {
    fires: 'events: [{event: {}}]',
    quiet: null,
    words: ['TO BE COMPLETED: the alert holds the last event only. Put what came before it into `events`, in its order.', ...steps],
  };
}

export function asCase(alert, rule = {}) {
  const event = structuredClone(alert.event);
  for (const name of ['auditID', 'stageTimestamp']) delete event[name];
  for (const [path, value] of Object.entries(alert.matched ?? {})) {
    if (isPath(path)) restore(event, path, value);
  }
  // What an event of a case has unless it is taken away.
  event.user.username ??= null;
  if (!event.user.groups?.length) event.user.groups = null;
  for (const name of ['sourceIPs', 'userAgent', 'responseStatus']) event[name] ??= null;
  const { fires, quiet, words } = casesOf(alert, event, rule);
  const id = JSON.stringify(alert.rule.id);
  return [
    ...words.map((line) => `# ${line.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, ' ')}`),
    `base: ${JSON.stringify(event)}`,
    'cases:',
    `  - {name: ${JSON.stringify(alert.summary)}, rule: ${id}, ${fires}, fires: true}`,
    ...(quiet ? [`  - {name: ${JSON.stringify(quiet[0])}, rule: ${id}, ${quiet[1]}, fires: false}`] : []),
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
