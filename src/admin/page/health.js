// Whether silence is health: do events come, do alerts go, do the rules hold.

import { counted, el, fill, moment, number, span } from './dom.js';
import { get } from './api.js';

const OLD = 600;
const SOON = 14 * 86400;

function card(title, ...children) {
  return el('div', { class: 'card' }, el('h2', {}, title), children);
}

function table(heads, rows) {
  return el('table', { class: 'small stack' }, el('thead', {}, el('tr', {}, heads.map((text) => el('th', { scope: 'col' }, text)))),
    el('tbody', {}, rows.map((cells) => el('tr', {}, cells.map((cell, at) => el('td', { 'data-label': heads[at] }, cell))))));
}

function verdict(good, words) {
  return el('span', { class: good ? 'good' : 'bad' }, good ? '✓ ' : '⚠ ', words);
}

function events(status) {
  const newest = status.newest_events ?? [];
  if (!newest.length) {
    return card('Events', el('p', {}, verdict(false, 'None has come since the start.')),
      el('p', { class: 'small' }, 'Tell kube-apiserver to send them, or see why it does not: deploy/apiserver-flags.md and docs/apiserver.md.'));
  }
  return card('Events', table(['Source', 'Cluster', 'Newest event', 'Age'],
    newest.map((one) => [one.source, one.cluster, moment(one.time, true), verdict(one.age_seconds < OLD, span(one.age_seconds))])));
}

function sinks(status) {
  const all = status.outbox ?? [];
  if (!all.length) return card('Sinks', el('p', {}, verdict(false, 'None is configured: nobody is told of alerts but whoever looks here.')));
  return card('Sinks', table(['Sink', 'Waiting', 'Oldest', 'Given up', 'State'], all.map((one) => {
    const late = one.waiting > 0 && (one.oldest_seconds ?? 0) >= 60;
    const words = late ? 'does not take alerts' : one.dead > 0 ? 'gave some up' : 'fine';
    return [one.sink, number(one.waiting), one.waiting ? span(one.oldest_seconds) : '–', number(one.dead),
      [verdict(!late && !one.dead, words), one.reason && el('div', { class: 'small soft' }, one.reason)]];
  })), all.some((one) => one.dead) && el('p', { class: 'small' }, el('code', {}, 'kubesiren outbox list --state dead'), ' says what and why, ', el('code', {}, 'outbox retry'), ' sends it again.'));
}

function rules(status) {
  const errors = status.rule_errors ?? 0;
  return card('Rules', el('dl', {},
    el('dt', {}, 'In use'), el('dd', {}, `${counted(status.rules ?? 0, 'rule')}, ${counted(status.correlations ?? 0, 'correlation')}`),
    status.rule_set && [el('dt', {}, 'Set'), el('dd', { class: 'mono' }, status.rule_set)],
    el('dt', {}, 'Last load'), el('dd', {}, verdict(!errors, errors ? `${counted(errors, 'mistake')}; the old set runs on, kubesiren rules check says where` : 'no mistakes'))));
}

function rejected(status) {
  const all = status.rejected ?? [];
  const some = all.filter((one) => one.count > 0);
  if (!some.length) return card('Refused events', el('p', {}, verdict(true, 'none since the start')));
  return card('Refused events', table(['Source', 'Reason', 'Events'], some.map((one) => [one.source, one.reason, number(one.count)])),
    el('p', { class: 'small' }, 'They are kept in the rejects file of the state directory.'));
}

function certificates(status) {
  const all = status.certificates ?? [];
  if (!all.length) return null;
  return card('Certificates', table(['Listener', 'Ends', ''], all.map((one) => {
    const left = one.left_seconds;
    return [one.listener, moment(one.ends, true), verdict(left > SOON, left > 0 ? `in ${span(left)}` : 'has ended')];
  })));
}

// What is wrong, in few words; for the mark beside the view's name.
export function worries(status) {
  const late = (status.outbox ?? []).filter((one) => one.dead > 0 || (one.waiting > 0 && (one.oldest_seconds ?? 0) >= 60));
  const newest = status.newest_events ?? [];
  const old = newest.filter((one) => one.age_seconds >= OLD);
  const ending = (status.certificates ?? []).filter((one) => one.left_seconds <= SOON);
  return (status.reasons?.length ?? 0) + late.length + old.length + ending.length + (status.rule_errors ? 1 : 0) + (newest.length ? 0 : 1);
}

export async function show(view, signal) {
  const status = await get('/api/v1/status', null, signal);
  document.title = 'Health – Kubesiren';
  fill(view, el('h1', {}, 'Health'),
    status.ready
      ? el('p', { class: 'notice' }, verdict(true, 'Ready'), ` for ${span(status.uptime_seconds)}, version ${status.version}, cluster label ${status.cluster}`)
      : el('div', { class: 'notice wrong' }, verdict(false, 'Not ready'), el('ul', {}, (status.reasons ?? []).map((reason) => el('li', {}, reason)))),
    el('div', { class: 'grid' }, events(status), sinks(status), rules(status), rejected(status), certificates(status)));
  return status;
}
