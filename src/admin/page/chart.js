// Alerts over time, stacked by level. One stop for the keyboard: arrows go from bar to bar, Enter looks at one more closely.

import { LEVELS, clock, counted, day, el, number, svg } from './dom.js';

const WIDTH = 1000;
const HEIGHT = 120;

function label(from, to) {
  const [a, b] = [new Date(from), new Date(to)];
  return day(a) === day(b) ? `${day(a)} ${clock(a)} to ${clock(b)}` : `${day(a)} ${clock(a)} to ${day(b)} ${clock(b)}`;
}

function words(levels) {
  const parts = LEVELS.map((name, at) => [levels[at], name]).filter(([count]) => count > 0).reverse();
  return parts.length ? parts.map(([count, name]) => `${number(count)} ${name}`).join(', ') : 'none';
}

// Bars that hold something but little are still seen.
const LEAST = 2;

export function chart(figures, zoom, pick) {
  const bars = figures.bars;
  const sums = bars.map((bar) => bar.levels.reduce((a, b) => a + b, 0));
  const most = Math.max(1, ...sums);
  const step = WIDTH / bars.length;
  const end = (at) => (at + 1 < bars.length ? bars[at + 1].from : figures.until);
  const nodes = bars.map((bar, at) => {
    let y = HEIGHT;
    const parts = [];
    bar.levels.forEach((count, index) => {
      if (!count) return;
      const height = Math.max(LEAST, (count / most) * (HEIGHT - 4));
      y -= height;
      parts.push(svg('rect', { class: `f-${LEVELS[index]}`, x: at * step + step * 0.1, y, width: step * 0.8, height }));
    });
    const title = `${label(bar.from, end(at))}: ${words(bar.levels)}`;
    const group = svg('g', {
      class: 'bar', role: 'button', tabindex: -1, 'aria-label': title, 'data-key': `bar-${at}`,
      onclick: () => zoom(bar.from, end(at)),
    }, svg('title', {}, title), svg('rect', { class: 'hit', x: at * step, y: 0, width: step, height: HEIGHT }), parts);
    return group;
  });
  const reach = (at) => {
    nodes.forEach((node, index) => node.setAttribute('tabindex', index === at ? 0 : -1));
    nodes[at].focus();
  };
  nodes.forEach((node, at) => node.addEventListener('keydown', (event) => {
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: nodes.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      reach(Math.min(nodes.length - 1, Math.max(0, to)));
    } else if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      zoom(bars[at].from, end(at));
    }
  }));
  const last = sums.findLastIndex((sum) => sum > 0);
  nodes[Math.max(0, last)]?.setAttribute('tabindex', 0);
  const picture = svg('svg', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'group',
    'aria-label': `Alerts over time, at most ${number(most)} in a bar; arrow keys move, Enter looks closer`,
  }, svg('line', { class: 'base', x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }), nodes);
  const [from, to] = [new Date(figures.since), new Date(figures.until)];
  const long = day(from) !== day(to);
  const at = (date) => (long ? `${day(date)} ${clock(date).slice(0, 5)}` : clock(date));
  const legend = LEVELS.map((name, index) => el('button', {
    type: 'button', class: `c-${name}`, title: `Show ${name} and above`, onclick: () => pick(name), 'data-key': `legend-${name}`,
  }, el('span', { class: 'swatch' }), `${name} ${number(figures.levels[index])}`)).reverse();
  return el('div', { class: 'card chart' },
    el('div', { class: 'top' }, el('h2', {}, counted(figures.total, 'alert')), figures.total > 0 && el('span', { class: 'soft small' }, `up to ${number(most)} a bar`)),
    picture,
    el('div', { class: 'axis' }, el('span', {}, at(from)), el('span', {}, at(to))),
    el('div', { class: 'legend' }, legend));
}
