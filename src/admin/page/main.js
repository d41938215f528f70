// Puts the parts together: which view, when to ask again, keys, who somebody is.

import { box, el, fill, say } from './dom.js';
import { go, onChange, read } from './state.js';
import { get, listen, token } from './api.js';
import * as list from './list.js';
import * as detail from './detail.js';
import * as health from './health.js';
import * as silences from './silences.js';

const view = document.getElementById('view');
const problem = document.getElementById('problem');
const live = document.getElementById('live');
const who = document.getElementById('who');
const mark = document.getElementById('health-mark');

let session = { role: 'reader' };
let asking = null;
let dirty = false;
let timer = null;
let listenAgain = () => {};
const AGAIN = 1000;

async function refresh() {
  clearTimeout(timer);
  timer = null;
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  dirty = false;
  const state = read();
  for (const link of document.querySelectorAll('nav [data-view]')) {
    if (link.dataset.view === (state.view ?? 'alerts')) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  try {
    if (state.view === 'health') noteHealth(await health.show(view, mine.signal));
    else if (state.view === 'silences') await silences.show(view, session, refresh, mine.signal);
    else await list.show(view, state, mine.signal);
    fill(problem);
  } catch (error) {
    if (error.name !== 'AbortError') complain(error);
  }
  if (asking === mine) asking = null;
}

// Behind a proxy a 401 is its session that has ended: where there is no token, none is asked for.
function unknown(words) {
  if (session.proxy && !session.token) ended();
  else wantToken(words);
}

function ended() {
  if (document.getElementById('box').open) return;
  const again = el('button', { type: 'button', class: 'main', onclick: () => location.reload() }, 'Load the page again');
  box('Your session has ended', el('p', {}, 'The proxy in front of this page does not know you any more. It asks you to sign in when the page is loaded again.'),
    el('div', { class: 'row' }, again));
  again.focus();
}

function complain(error) {
  if (error.status === 401) unknown(error.message);
  const wrong = error.status === 400;
  // Nothing was shown yet: whoever listens to the page is told what it is.
  if (!view.firstChild) fill(view, el('h1', { class: 'skip' }, 'Kubesiren'));
  fill(problem, el('div', { class: 'notice wrong' }, el('b', {}, wrong ? 'This address asks for something that there is not. ' : 'What you see may be old. '), error.message, ' ',
    el('button', { type: 'button', onclick: wrong ? () => go(Object.fromEntries(Object.keys(read()).map((name) => [name, null]))) : refresh }, wrong ? 'Start afresh' : 'Try again')));
}

// Soon, but not for every message: much may happen at once.
function soon() {
  dirty = true;
  if (document.hidden || timer || asking) {
    if (asking && !timer && !document.hidden) timer = setTimeout(refresh, AGAIN);
    return;
  }
  timer = setTimeout(refresh, AGAIN / 4);
}

document.addEventListener('visibilitychange', () => {
  if (!document.hidden && dirty) refresh();
});

function noteHealth(status) {
  const count = health.worries(status);
  mark.hidden = count === 0;
  mark.textContent = count;
  mark.setAttribute('aria-label', `${count} worries`);
}

async function lookAtHealth() {
  try {
    noteHealth(await get('/api/v1/status'));
  } catch {
    // The view itself tells of it.
  }
}

async function know() {
  try {
    session = await get('/api/v1/session');
    detail.setSession(session);
    who.hidden = !session.token && !session.proxy;
    who.textContent = session.role === 'editor' ? session.who : session.bearer ? 'reads only' : session.token ? 'Bear the token' : `${session.who} (reads only)`;
  } catch (error) {
    if (error.status === 401) unknown(error.message);
  }
}

function wantToken(words) {
  if (document.getElementById('box').open) return;
  const input = el('input', { type: 'password', id: 'token', autocomplete: 'off' });
  const submit = async (event) => {
    event.preventDefault();
    token.set(input.value.trim());
    document.getElementById('box').close();
    await know();
    say(session.bearer ? 'The token is taken.' : 'This token is not the right one.');
    if (session.bearer) listenAgain();
    else token.set('');
    refresh();
    detail.follow(read().alert);
  };
  box('The admin token', el('p', {}, words ?? 'With it you may change things.'),
    el('form', { onsubmit: submit },
      el('p', {}, el('label', { for: 'token' }, 'Token '), input),
      el('p', { class: 'soft small' }, 'It is kept in this tab only, until you close it. It stands in the file of admin.token_file, or of admin.reader_token_file for those who only read.'),
      el('div', { class: 'row' }, el('button', { class: 'main', type: 'submit' }, 'Use it'),
        token.get() && el('button', { type: 'button', onclick: () => { token.set(''); know(); document.getElementById('box').close(); } }, 'Forget it'))));
  input.focus();
}

who.addEventListener('click', () => session.token && wantToken());
document.addEventListener('token-wanted', (event) => {
  document.getElementById('box').close();
  unknown(event.detail);
});

const KEYS = [
  ['j, k', 'the next alert, the one before'],
  ['Enter', 'look at it'],
  ['Esc', 'back to the list'],
  ['/', 'search'],
  ['n, p', 'older alerts, the newest'],
  ['g a, g s, g h', 'alerts, silences, health'],
  ['?', 'these keys'],
];

function help() {
  box('Keys', el('dl', {}, KEYS.map(([keys, words]) => [el('dt', {}, keys.split(', ').flatMap((key, at) => (at ? [', ', el('kbd', {}, key)] : [el('kbd', {}, key)]))), el('dd', {}, words)])),
    el('p', { class: 'soft small' }, 'In the chart, arrows go from bar to bar and Enter looks closer. Every filter stands in the address: copy it to show somebody what you see.'));
}

document.getElementById('help').addEventListener('click', help);

function step(by) {
  const titles = [...document.querySelectorAll('.alerts a.title')];
  const at = titles.indexOf(document.activeElement);
  titles[Math.min(titles.length - 1, Math.max(0, at < 0 ? 0 : at + by))]?.focus();
}

let went = false;
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  if (/^(input|select|textarea)$/i.test(event.target.tagName)) return;
  if (went) {
    went = false;
    const to = { a: null, s: 'silences', h: 'health' }[event.key];
    if (to !== undefined) go({ view: to, alert: null });
    return;
  }
  const act = {
    j: () => step(1),
    k: () => step(-1),
    '/': () => document.querySelector('input[name=q]')?.focus(),
    '?': help,
    n: () => document.querySelector('[data-key=older]')?.click(),
    p: () => document.querySelector('[data-key=newest]')?.click(),
    g: () => { went = true; },
  }[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

// Links within the page need not load it again.
document.addEventListener('click', (event) => {
  const link = event.target.closest('a[href]');
  if (!link || link.target || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const to = new URL(link.href);
  if (to.origin !== location.origin || to.pathname !== '/' || to.hash) return;
  event.preventDefault();
  history.pushState(null, '', to);
  turn();
});

let before = '';

// The address has changed: the list is asked again only when it is another one.
function turn() {
  const { alert, ...rest } = read();
  const now = JSON.stringify(rest);
  if (now !== before) {
    before = now;
    refresh();
  }
  detail.follow(alert);
}

onChange(turn);
know().then(turn);
lookAtHealth();
setInterval(lookAtHealth, 30_000);
// Ages grow although nothing happens.
setInterval(() => { if (!document.hidden && read().view === 'health') refresh(); }, 10_000);
listenAgain = listen(() => {
  if (!read().cursor) soon();
  // What worried somebody may have come meanwhile.
  if (!mark.hidden) lookAtHealth();
}, (on) => {
  live.textContent = on ? 'live' : 'not live, asks every 10 s';
  live.className = `live ${on ? 'on' : 'off'}`;
});
