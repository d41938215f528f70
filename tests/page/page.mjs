// Looks at the page of a running demo as people do. `node page.mjs http://127.0.0.1:PORT/`; SHOTS=folder keeps pictures.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(join(process.env.KUBESIREN_PAGE_MODULES ?? import.meta.dirname, 'x.js'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const home = process.argv[2];
const shots = process.env.SHOTS;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
const wrong = [];
const steps = [];

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.on('pageerror', (error) => wrong.push(`${error}`));
  page.on('console', (message) => {
    // What a test provokes: refused and missing answers.
    if (message.type() === 'error' && !/status of (4\d\d|503)|ERR_/.test(message.text())) wrong.push(message.text());
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(home) && !request.url().startsWith('data:')) wrong.push(`asked elsewhere: ${request.url()}`);
  });
  return page;
}

async function shot(page, name) {
  if (shots) await page.screenshot({ path: join(shots, `${name}.png`), fullPage: false });
}

// The page's policy lets no script in, so the checker is brought in past it.
async function accessible(page, what) {
  const results = await page.evaluate(`${axe}; axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice'] })`);
  const found = results.violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(' | ')}`);
  assert.deepEqual(found, [], what);
}

async function step(name, run) {
  try {
    await run();
    steps.push(name);
  } catch (error) {
    console.error(`failed: ${name}\n${error.stack}`);
    process.exitCode = 1;
  }
}

const rows = (page) => page.locator('.alerts tbody tr');
const ready = async (page) => {
  await page.goto(home);
  await rows(page).first().waitFor();
};

await step('the first sight is small, and comes from here alone', async () => {
  const page = await open();
  let bytes = 0;
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  session.on('Network.loadingFinished', (event) => { bytes += event.encodedDataLength; });
  await ready(page);
  await page.waitForTimeout(300);
  console.log(`${bytes} bytes for the first sight`);
  assert.ok(bytes < 100_000, `${bytes} bytes`);
  await page.locator('#live.on').waitFor();
  await shot(page, 'light');
  await accessible(page, 'the list');
  await page.context().close();
});

await step('filters stand in the address, and are taken from it', async () => {
  const page = await open();
  await ready(page);
  const all = await rows(page).count();
  await page.selectOption('select[name=level]', 'high');
  await page.waitForURL(/level=high/);
  await page.waitForFunction((before) => document.querySelectorAll('.alerts tbody tr').length < before, all);
  const high = await rows(page).count();
  await page.locator('.alerts td.t-who button').first().click();
  await page.waitForURL(/user=/);
  await page.locator('.chip', { hasText: 'user' }).waitFor();
  const address = page.url();
  const other = await open();
  await other.goto(address);
  await rows(other).first().waitFor();
  assert.equal(await other.locator('select[name=level]').inputValue(), 'high');
  await page.goBack();
  await page.waitForFunction((before) => document.querySelectorAll('.alerts tbody tr').length === before, high);
  await page.fill('input[name=q]', 'xmrig');
  await page.waitForURL(/q=xmrig/);
  await page.locator('.alerts a.title', { hasText: 'miner' }).first().waitFor();
  assert.equal(await page.inputValue('input[name=q]'), 'xmrig');
  await page.fill('input[name=q]', 'nothing-is-called-this');
  await page.locator('.empty h2').waitFor();
  await shot(page, 'empty');
  await accessible(page, 'nothing found');
  await page.context().close();
  await other.context().close();
});

await step('the chart is walked by keyboard, and looks closer', async () => {
  const page = await open();
  await page.goto(`${home}?range=1h`);
  await page.locator('g.bar[tabindex="0"]').focus();
  await page.keyboard.press('ArrowLeft');
  const label = await page.evaluate(() => document.activeElement.getAttribute('aria-label'));
  assert.match(label, /\d\d:\d\d:\d\d/);
  await page.keyboard.press('End');
  await page.keyboard.press('Enter');
  await page.waitForURL(/since=.*until=/);
  await page.locator('.chip', { hasText: 'time' }).waitFor();
  await page.context().close();
});

await step('an alert says who, what, why, and what to do; keys lead to it and back', async () => {
  const page = await open();
  await ready(page);
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  await page.keyboard.press('Enter');
  await page.locator('#detail[open] dl').waitFor();
  assert.match(page.url(), /alert=[0-9a-f]{32}/);
  for (const text of ['Who', 'What', 'Where', 'When', 'From', 'Why it fired', 'Handling', 'Take it elsewhere']) {
    assert.ok(await page.locator('#detail', { hasText: text }).count(), text);
  }
  await page.keyboard.press('Escape');
  await page.locator('#detail[open]').waitFor({ state: 'hidden' });
  assert.doesNotMatch(page.url(), /alert=/);
  await page.fill('input[name=q]', 'Privileged container');
  await page.locator('.alerts a.title', { hasText: 'Privileged container' }).first().click();
  await page.locator('#detail .list').first().waitFor();
  await page.locator('#detail summary', { hasText: 'as it is written' }).click();
  await page.locator('#detail pre', { hasText: 'detection' }).waitFor();
  await shot(page, 'detail');
  await accessible(page, 'an alert');
  await page.getByRole('button', { name: 'As test case' }).click();
  const text = await page.locator('#box textarea').inputValue();
  assert.match(text, /fires: true/);
  assert.match(text, /"privileged":true/);
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'As filter' }).click();
  await page.locator('#box h2', { hasText: 'A filter' }).waitFor();
  const filter = await page.locator('#box textarea').inputValue();
  assert.match(filter, /condition: not expected/);
  if (process.env.COPIES) {
    // For whoever checks that they are what they say.
    const rule = await page.locator('#detail pre').textContent();
    for (const [name, content] of [['case/rule.yml', rule], ['case/rule.test.yml', text], ['filter/rule.yml', rule], ['filter/filter.yml', filter]]) {
      mkdirSync(dirname(join(process.env.COPIES, name)), { recursive: true });
      writeFileSync(join(process.env.COPIES, name), content);
    }
  }
  await page.context().close();
});

await step('an alert is acknowledged with a note, and closed', async () => {
  const page = await open();
  await ready(page);
  await page.locator('.alerts a.title').first().click();
  await page.fill('#note', 'I look into it <img src=x onerror=alert(1)>');
  await page.getByRole('button', { name: 'Acknowledge' }).click();
  await page.locator('#detail .list', { hasText: 'onerror=alert' }).waitFor();
  await page.getByRole('button', { name: 'Close', exact: true }).last().click();
  await page.locator('#detail dd', { hasText: 'closed' }).waitFor();
  await page.keyboard.press('Escape');
  await page.selectOption('select[name=handling]', 'closed');
  // The rows of before stand there until the answer has come.
  await page.waitForFunction(() => document.querySelectorAll('.alerts tbody tr').length === 1);
  await page.context().close();
});

await step('what somebody else does is seen without asking again', async () => {
  const [one, other] = [await open(), await open()];
  await ready(one);
  await ready(other);
  await other.locator('#live.on').waitFor();
  assert.equal(await rows(other).filter({ hasText: 'acknowledged' }).count(), 0);
  await one.locator('.alerts a.title').nth(2).click();
  await one.getByRole('button', { name: 'Acknowledge' }).click();
  await rows(other).filter({ hasText: 'acknowledged' }).waitFor();
  await one.context().close();
  await other.context().close();
});

await step('a silence shows what it would hide before it does', async () => {
  const page = await open();
  await ready(page);
  await page.locator('.alerts a.title').first().click();
  await page.getByRole('button', { name: 'Silence…' }).click();
  await page.locator('#box', { hasText: 'would have hidden' }).waitFor();
  await shot(page, 'silence');
  await accessible(page, 'a silence');
  await page.fill('#reason', 'a drill');
  await page.getByRole('button', { name: 'Silence', exact: true }).click();
  await page.locator('#box[open]').waitFor({ state: 'hidden' });
  await page.goto(`${home}?view=silences`);
  await page.locator('td', { hasText: 'a drill' }).waitFor();
  await shot(page, 'silences');
  await accessible(page, 'the silences');
  await page.getByRole('button', { name: 'End now' }).click();
  await page.locator('td', { hasText: 'ended' }).waitFor();
  await page.context().close();
});

await step('health', async () => {
  const page = await open();
  await page.goto(`${home}?view=health`);
  await page.getByRole('heading', { name: 'Events', exact: true }).waitFor();
  await page.locator('td', { hasText: 'demo' }).first().waitFor();
  await shot(page, 'health');
  await accessible(page, 'health');
  await page.context().close();
});

await step('dark, and as narrow as a telephone', async () => {
  const dark = await open({ colorScheme: 'dark' });
  await ready(dark);
  await shot(dark, 'dark');
  await accessible(dark, 'dark');
  await dark.locator('.alerts a.title').first().click();
  await dark.locator('#detail dl').waitFor();
  await shot(dark, 'dark-detail');
  await accessible(dark, 'an alert in the dark');
  for (const view of ['?view=silences', '?view=health', '?q=nothing-is-called-this', '?level=dreadful']) {
    await dark.goto(`${home}${view}`);
    await dark.locator('#view > *, #problem > *').first().waitFor();
    await dark.waitForTimeout(200);
    await shot(dark, `dark-${view.split('=')[1]}`);
    await accessible(dark, `${view} in the dark`);
  }
  await dark.context().close();
  const narrow = await open({ viewport: { width: 320, height: 700 } });
  for (const view of ['', '?view=silences', '?view=health', '?q=nothing-is-called-this', '?level=dreadful']) {
    await narrow.goto(`${home}${view}`);
    await narrow.locator('#view > *, #problem > *').first().waitFor();
    await narrow.waitForTimeout(200);
    const wide = await narrow.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= 320, `${view}: ${wide} px`);
    await shot(narrow, `narrow${view && `-${view.split('=')[1]}`}`);
    await accessible(narrow, `${view || 'the list'}, narrow`);
  }
  await narrow.goto(home);
  await narrow.locator('.alerts a.title').first().click();
  await narrow.locator('#detail dl').waitFor();
  await narrow.waitForTimeout(200);
  const wide = await narrow.evaluate(() => document.getElementById('detail').scrollWidth);
  assert.ok(wide <= 320, `the alert: ${wide} px`);
  await shot(narrow, 'narrow-detail');
  await accessible(narrow, 'an alert, narrow');
  await narrow.context().close();
});

await step('what is wrong is told, with what helps', async () => {
  const page = await open();
  await page.goto(`${home}?level=dreadful`);
  await page.locator('#problem', { hasText: 'dreadful' }).waitFor();
  await page.getByRole('button', { name: 'Start afresh' }).click();
  await rows(page).first().waitFor();
  await page.goto(`${home}?alert=00000000000000000000000000000000`);
  await page.locator('#detail', { hasText: 'No alert has this id' }).waitFor();
  await page.keyboard.press('Escape');
  await page.route('**/api/v1/**', (route) => route.abort());
  await page.locator('select[name=level]').selectOption('critical');
  await page.locator('#problem', { hasText: 'does not answer' }).waitFor();
  await shot(page, 'error');
  await accessible(page, 'an error');
  await page.context().close();
});

await step('behind a proxy an ended session is told, and no token is asked for', async () => {
  const page = await open();
  await page.route('**/api/v1/session', (route) => route.fulfill({ json: { who: 'ada', role: 'reader', token: false, proxy: true } }));
  await ready(page);
  // As the proxy answers, and not Kubesiren.
  await page.route('**/api/v1/alerts?*', (route) => route.fulfill({ status: 401, contentType: 'text/html', body: 'sign in' }));
  await page.selectOption('select[name=level]', 'critical');
  await page.locator('#box h2', { hasText: 'Your session has ended' }).waitFor();
  assert.equal(await page.locator('#token').count(), 0);
  await shot(page, 'ended');
  await accessible(page, 'an ended session');
  await page.unroute('**/api/v1/alerts?*');
  await page.getByRole('button', { name: 'Load the page again' }).click();
  await page.locator('#box[open]').waitFor({ state: 'hidden' });
  await rows(page).first().waitFor();
  await page.context().close();
});

await step('where readers need a token the page asks for it, and is live with it', async () => {
  const page = await open();
  await page.route('**/api/v1/**', (route) => {
    if (route.request().headers().authorization !== 'Bearer r3ader') return route.fulfill({ status: 401, json: { error: 'reading needs a token' } });
    if (!route.request().url().endsWith('/session')) return route.continue();
    return route.fulfill({ json: { who: 'reader token', role: 'reader', bearer: true, token: true, proxy: false } });
  });
  await page.goto(home);
  await page.locator('#box', { hasText: 'reading needs a token' }).waitFor();
  await accessible(page, 'the question for the token');
  await page.fill('#token', 'wrong');
  await page.getByRole('button', { name: 'Use it' }).click();
  await page.locator('#said', { hasText: 'not the right one' }).waitFor({ state: 'attached' });
  await page.locator('#box', { hasText: 'reading needs a token' }).waitFor();
  await page.fill('#token', 'r3ader');
  await page.getByRole('button', { name: 'Use it' }).click();
  await rows(page).first().waitFor();
  await page.locator('#live.on').waitFor();
  await page.locator('#who', { hasText: 'reads only' }).waitFor();
  await page.context().close();
});

await step('hostile names are text', async () => {
  const page = await open();
  const evil = '<img src=x onerror="window.hit=1">\u202e"\'</td><script>window.hit=1</script>';
  await page.route('**/api/v1/alerts?*', async (route) => {
    const answer = await route.fetch();
    const body = await answer.json();
    for (const alert of body.alerts) {
      alert.summary = evil;
      alert.rule.title = evil;
      alert.event.user.username = evil;
      alert.rule.references = ['javascript:window.hit=1'];
    }
    await route.fulfill({ response: answer, json: body });
  });
  await page.route('**/api/v1/alerts/*', async (route) => {
    if (route.request().url().includes('related')) return route.continue();
    const answer = await route.fetch();
    const body = await answer.json();
    Object.assign(body, { summary: evil, matched: { [evil]: evil }, group: { [evil]: evil } });
    Object.assign(body.rule, { title: evil, runbook: 'javascript:window.hit=1', references: ['javascript:window.hit=1'], tags: ['attack.t1<b>'] });
    Object.assign(body.event, { userAgent: evil, requestURI: evil });
    body.event.user.username = evil;
    return route.fulfill({ response: answer, json: body });
  });
  await ready(page);
  await page.locator('.alerts a.title').first().click();
  await page.locator('#detail dl').waitFor();
  assert.equal(await page.evaluate(() => window.hit), undefined);
  assert.equal(await page.locator('#view img, #detail img, #view script, #detail script, a[href^="javascript"]').count(), 0);
  assert.ok((await page.locator('#detail').textContent()).includes('<img src=x onerror='));
  await page.context().close();
});

await browser.close();
if (wrong.length) {
  console.error(`errors of the page:\n${[...new Set(wrong)].join('\n')}`);
  process.exitCode = 1;
}
console.log(`${steps.length} steps went well`);
