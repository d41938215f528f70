// Building of elements. What alerts say was chosen by whoever is watched: it becomes text nodes and attributes, never markup.

function add(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

function set(node, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'href' && !safe(String(value))) continue;
    else if (name === 'value') node.value = value;
    else if (name === 'checked') node.checked = value;
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  return node;
}

// Links lead within this page, or to other sites over HTTP: no rule may bring a script in.
function safe(href) {
  return href.startsWith('/') || href.startsWith('?') || href.startsWith('#') || isWeb(href);
}

export function isWeb(text) {
  try {
    return ['https:', 'http:'].includes(new URL(text).protocol);
  } catch {
    return false;
  }
}

export function el(tag, properties = {}, ...children) {
  return add(set(document.createElement(tag), properties), children);
}

export function svg(tag, properties = {}, ...children) {
  return add(set(document.createElementNS('http://www.w3.org/2000/svg', tag), properties), children);
}

// Replaces what a node holds, and keeps the keyboard's place: elements are known by their data-key.
export function fill(node, ...children) {
  const focused = node.contains(document.activeElement) ? document.activeElement.closest('[data-key]') : null;
  const key = focused && focused.dataset.key;
  node.replaceChildren();
  add(node, children);
  if (key) node.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
  return node;
}

export function outside(href, text) {
  return isWeb(href) ? el('a', { href, target: '_blank', rel: 'noopener noreferrer' }, text ?? href) : el('span', {}, text ?? href);
}

export const LEVELS = ['informational', 'low', 'medium', 'high', 'critical'];

export function level(name) {
  const known = LEVELS.includes(name) ? name : 'informational';
  return el('span', { class: `level c-${known}` }, known);
}

const two = (number) => String(number).padStart(2, '0');

export function clock(date) {
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export function day(date) {
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

// A moment, short for today; all of it, with the zone, on hovering.
export function moment(iso, long = false) {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return el('span', {}, iso);
  const today = day(date) === day(new Date());
  const text = long || !today ? `${day(date)} ${clock(date)}` : clock(date);
  return el('time', { datetime: iso, title: `${iso} · ${date.toString()}` }, text);
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const [size, name] = units.find(([size]) => seconds >= size) ?? units[3];
  return `${Math.floor(seconds / size)} ${name}`;
}

export function number(value) {
  return Number(value).toLocaleString('en').replaceAll(',', '\u202f');
}

export function counted(value, word) {
  return `${number(value)} ${word}${value === 1 ? '' : 's'}`;
}

let saying;
// Tells what was done, for eyes and for screen readers.
export function say(text) {
  const node = document.getElementById('said');
  node.textContent = text;
  clearTimeout(saying);
  saying = setTimeout(() => { node.textContent = ''; }, 4000);
}

// Opens the box in the middle; its opener gets the keyboard back.
export function box(title, ...children) {
  const node = document.getElementById('box');
  const close = el('button', { type: 'button', 'aria-label': 'Close', onclick: () => node.close() }, '✕');
  fill(node, el('div', { class: 'top' }, el('h2', { id: 'box-title' }, title), close), children);
  if (!node.open) node.showModal();
  return node;
}
