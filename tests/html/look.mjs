// Looks at pages in Chromium. From html_test.py: REPORT and DIFF are pages, JSON is the report of the same session, GPU and
// GPU_JSON the same of a session with GPU memory (they may be missing), PAGE is the folder where the page was built, SCREENSHOTS gets
// pictures.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';

const { PAGE, CHROMIUM, REPORT, DIFF, JSON: REPORT_JSON, GPU, GPU_JSON, SCREENSHOTS } = process.env;
const require = createRequire(join(PAGE, 'any.js'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const report = JSON.parse(readFileSync(REPORT_JSON, 'utf8'));

let browser;
before(async () => {
  // Run by root in CI, where Chromium's sandbox refuses.
  browser = await chromium.launch({ executablePath: CHROMIUM, args: process.getuid() === 0 ? ['--no-sandbox'] : [] });
});
after(() => browser?.close());

// Opens a page that must neither complain nor ask for anything.
async function open(file, { width = 1440, height = 1000, scheme = 'light' } = {}) {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme: scheme, reducedMotion: 'reduce' });
  page.troubles = [];
  page.on('console', (message) => page.troubles.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => page.troubles.push(error.stack));
  page.on('request', (request) => {
    if (!/^(file|data|blob):/.test(request.url())) page.troubles.push(`asks for ${request.url()}`);
  });
  await page.goto(pathToFileURL(file).href);
  await page.waitForFunction(() => document.documentElement.dataset.ready === 'true');
  return page;
}

async function close(page) {
  assert.deepEqual(page.troubles, []);
  await page.close();
}

// What a finger would miss: controls in sight that are less than 44 pixels high.
const smallTargets = (page) => page.evaluate(() => [...document.querySelectorAll('button, select, input, summary, a, tr[data-place]')]
  .filter((one) => one.checkVisibility() && !one.matches('.skip') && (one.closest('label:has([type="checkbox"])') ?? one).getBoundingClientRect().height < 43.5)
  .map((one) => one.outerHTML.slice(0, 100)));

const shownGroups = async (page) => Number((await page.textContent('#shown')).split(' ')[0].replaceAll(',', ''));
const cell = (page, row, column) => page.textContent(`#groups tr[data-place="${row}"] td[data-column="${column}"]`);
const blamed = (group) => group.frames[group.blamed_frame];

test('the top says in one sentence what keeps the memory', async () => {
  const page = await open(REPORT);
  assert.equal(await page.textContent('h1'), report.headline);
  assert.match(report.headline, /^leak: leaky_server \[\d+\]: leaky::/);
  const leaks = await page.textContent('#verdicts li:first-child');
  assert.match(leaks, /^leak /);
  // In sight without scrolling.
  assert.ok((await page.locator('#verdicts').boundingBox()).y < 500);
  await close(page);
});

test('the first thing below it is the function that leaks, how much a request, and the way to its evidence', async () => {
  for (const size of [{ width: 1440, height: 1000 }, { width: 390, height: 844 }]) {
    const page = await open(REPORT, size);
    const [first] = report.groups;
    const answer = page.locator('#answer button').first();
    const { y, height } = await answer.boundingBox();
    assert.ok(y + height < size.height, 'in sight without scrolling');
    const text = await answer.textContent();
    assert.match(text, /^\+[\d.]+ KiB per request/);
    assert.ok(text.includes(blamed(first).function.split('(')[0]), text);
    assert.ok(text.includes(`leaks.cc:${blamed(first).line}`), text);
    assert.equal(await page.locator('#answer button').count(), 3);
    await answer.click();
    assert.ok((await page.textContent('dialog[open]')).includes(first.evidence[0]));
    await close(page);
  }
});

test('the table has the groups of the report, in its order', async () => {
  const page = await open(REPORT);
  for (let row = 0; row < 5; ++row) {
    const group = report.groups[row];
    assert.equal(await cell(page, row, 'rank'), `${group.rank}`);
    assert.equal(await cell(page, row, 'verdict'), group.verdict);
    assert.ok(blamed(group).function.replaceAll('(anonymous namespace)::', '').startsWith(
      await page.textContent(`#groups tr[data-place="${row}"] .function`)));
  }
  await page.click('#groups th[data-column="live"] button');
  assert.equal(await page.getAttribute('#groups th[data-column="live"]', 'aria-sort'), 'descending');
  const most = Math.max(...report.groups.map((group) => group.live_bytes));
  const first = report.groups.find((group) => group.live_bytes === most);
  assert.equal(await cell(page, 0, 'rank'), `${first.rank}`);
  await close(page);
});

test('a row opens with its evidence and its stack, by mouse and by keyboard', async () => {
  const page = await open(REPORT);
  await page.focus('#groups tr[data-place="0"]');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  const second = report.groups[1];
  await page.waitForSelector('dialog[open]');
  const text = await page.textContent('dialog');
  for (const line of second.evidence) assert.ok(text.includes(line), line);
  assert.ok(text.includes(`${blamed(second).file}:${blamed(second).line}`));
  assert.equal(await page.locator('dialog .stack li').count(), second.frames.length);
  await page.keyboard.press('Escape');
  assert.equal(await page.locator('dialog[open]').count(), 0);
  await page.click('#groups tr[data-place="0"] td[data-column="function"]');
  assert.ok((await page.textContent('dialog h2')).includes(blamed(report.groups[0]).function));
  await close(page);
});

test('search filters the page, and can be taken back', async () => {
  const page = await open(REPORT);
  const all = await shownGroups(page);
  await page.keyboard.press('/');
  await page.keyboard.type('cacheprompt');
  await page.waitForFunction((before) => !document.getElementById('shown').textContent.startsWith(`${before} `), all);
  const wanted = report.groups.filter((group) => group.frames.some((frame) => /cacheprompt/i.test(frame.function ?? '')));
  assert.ok(wanted.length > 0);
  assert.ok(await shownGroups(page) >= wanted.length);  // freed groups, too
  for (const name of await page.locator('#groups tr[data-place] .badge').allTextContents()) assert.ok(name);
  const sum = wanted.reduce((total, group) => total + group.live_bytes, 0);
  assert.ok((await page.textContent('#shown')).includes(`${(sum / 1024).toFixed(0)} KiB live`), await page.textContent('#shown'));
  await page.click('#clear');
  assert.equal(await shownGroups(page), all);
  await close(page);
});

test('a verdict is a filter', async () => {
  const page = await open(REPORT);
  await page.click('#verdicts button[data-verdict="leak"]');
  assert.equal(await shownGroups(page), report.groups.filter(({ verdict }) => verdict === 'leak').length);
  assert.equal(await page.getAttribute('#verdicts button[data-verdict="leak"]', 'aria-pressed'), 'true');
  await page.click('#verdicts button[data-verdict="leak"]');
  assert.ok(await shownGroups(page) >= report.groups.length);
  await close(page);
});

test('a click on the flame graph zooms in, and the table follows', async () => {
  const page = await open(REPORT);
  const width = async (name) => (await page.locator(`#flame g.frame[aria-label*="${name}"]`).first().boundingBox()).width;
  const chart = (await page.locator('#flame .flame').boundingBox()).width;
  const leak = 'MakeTableOnce';
  assert.ok(await width(leak) < chart / 2);
  await page.locator(`#flame g.frame[aria-label*="${leak}"]`).first().click();
  assert.ok(await width(leak) > chart * 0.95);
  assert.match(await page.textContent('#all-stacks'), /^1 stack below the chosen frame/);
  assert.match(await cell(page, 0, 'function'), /MakeTableOnce/);
  await page.click('#unzoom');
  assert.ok(await width(leak) < chart / 2);
  await close(page);
});

test('the flame graph is walked with the keyboard, reversed, and measured otherwise', async () => {
  const page = await open(REPORT);
  await page.focus('#flame .flame');
  await page.keyboard.press('ArrowDown');
  const selected = () => page.getAttribute('#flame g.frame.selected', 'aria-label');
  const outermost = await selected();
  await page.keyboard.press('ArrowDown');
  assert.notEqual(await selected(), outermost);
  await page.keyboard.press('ArrowUp');
  assert.equal(await selected(), outermost);
  await page.keyboard.press('Enter');
  assert.equal(await page.isVisible('#unzoom'), true);
  await page.keyboard.press('Escape');
  assert.equal(await page.isVisible('#unzoom'), false);
  await page.check('#reverse');
  // The widest frame below the root is now the function that holds the most.
  await page.keyboard.press('Tab');
  await page.focus('#flame .flame');
  await page.keyboard.press('ArrowDown');
  assert.match(await selected(), /LeakMapping/);
  for (const metric of ['growth', 'peak', 'freed']) {
    await page.selectOption('#metric', metric);
    assert.ok(await page.locator('#flame g.frame').count() > 1, metric);
  }
  await close(page);
});

test('a brush over the timeline makes the whole page tell of that time', async () => {
  const page = await open(REPORT);
  const over = await page.locator('#time .u-over').boundingBox();
  const before = await cell(page, 0, 'live');
  const drag = async (from, to) => {
    await page.mouse.move(over.x + over.width * from, over.y + 50);
    await page.mouse.down();
    await page.mouse.move(over.x + over.width * ((from + to) / 2), over.y + 60);
    await page.mouse.move(over.x + over.width * to, over.y + 60);
    await page.mouse.up();
  };
  await drag(0.5, 0.7);
  assert.notEqual(await page.inputValue('#from'), '');
  assert.match(await page.textContent('#shown'), / live at /);
  const within = await cell(page, 0, 'live');
  assert.notEqual(within, before);
  assert.match(await page.textContent('#processes'), /live on the heap then/);
  const [from, to] = [await page.inputValue('#from'), await page.inputValue('#to')];
  await page.click('#whole');
  assert.equal(await cell(page, 0, 'live'), before);
  // The same by keyboard.
  await page.fill('#from', from);
  await page.fill('#to', to);
  await page.press('#to', 'Enter');
  assert.equal(await cell(page, 0, 'live'), within);
  assert.deepEqual([await page.inputValue('#from'), await page.inputValue('#to')], [from, to]);
  await close(page);
});

test('phases select their time', async () => {
  const page = await open(REPORT);
  assert.ok(report.phases.length > 0);
  await page.click('#time .phase[data-kind="load"]');
  const load = report.phases.find(({ kind }) => kind === 'load');
  assert.ok(Math.abs(Number(await page.inputValue('#to')) - load.end) < 0.1 * (load.end - load.begin) + 0.02);
  await close(page);
});

test('processes, accounting, fragmentation and coverage are told', async () => {
  const page = await open(REPORT);
  for (const process of report.processes) assert.ok((await page.textContent('#processes')).includes(`[${process.pid}]`));
  const accounted = report.processes.filter((process) => process.memory.accounting);
  assert.equal(await page.isVisible('#accounting'), accounted.length > 0);
  assert.equal(await page.isVisible('#fragmentation'), report.fragmentation !== null);
  assert.match(await page.textContent('#coverage'), report.coverage.complete ? /Complete/ : /Not complete/);
  await close(page);
});

test('what changed since a baseline', async () => {
  const page = await open(DIFF);
  assert.equal(await page.isVisible('#diff'), true);
  const first = await page.textContent('#diff tbody tr:first-child');
  assert.match(first, /^new\+.*leaky::/);
  await close(page);
  const plain = await open(REPORT);
  assert.equal(await plain.isVisible('#diff'), false);
  await close(plain);
});

test('GPU ledgers, and what only refers to memory is nobody\'s', { skip: !GPU }, async () => {
  const page = await open(GPU);
  const gpu = JSON.parse(readFileSync(GPU_JSON, 'utf8'));
  const [process] = gpu.processes;
  for (const ledger of process.gpu) {
    const heading = `GPU ${ledger.device}`;
    const row = await page.locator(`#gpu .scroll[aria-label*="${heading}"] tr`, { hasText: { device: 'device memory', virtual: 'cuMemCreate',
      'address-space': 'addresses reserved', mapped: 'physical memory mapped' }[ledger.domain] }).first().textContent();
    assert.ok(row.includes(ledger.allocations.toLocaleString('en-US')), `${ledger.domain}: ${row}`);
  }
  const text = await page.textContent('#gpu');
  assert.match(text, /GPU 0: 3\.76 GiB live/);
  assert.match(text, /Of 32\.0 GiB of addresses reserved, 38\.0 MiB are mapped \(0\.12 %\)\. Physical memory: 38\.0 MiB, all of it mapped/);
  assert.match(text, /668 MiB in 1/);
  assert.match(text, /Failed: 1 allocation, 1 free/);
  const live = gpu.groups.filter((group) => group.counts_as_memory).reduce((total, group) => total + group.live_bytes, 0);
  assert.equal(live, gpu.session.live_bytes);
  assert.ok((await page.textContent('#shown')).includes(`${(live / 2 ** 30).toFixed(2)} GiB live`), await page.textContent('#shown'));
  await page.selectOption('#kind', 'gpu');
  assert.equal(await shownGroups(page), Number((await page.locator('#groups table').getAttribute('aria-rowcount'))) - 1);
  await page.selectOption('#kind', 'host');
  assert.ok(await shownGroups(page) > 0);
  await close(page);
});

test('what NVML saw beside the ledgers', async () => {
  const GiB = 2 ** 30;
  const ledger = { device: 0, domain: 'device', memory: true, live_bytes: GiB, live_blocks: 1, peak_bytes: GiB, allocations: 1, frees: 0,
    implicitly_freed: { blocks: 0, bytes: 0 }, rounding_bytes: 2 ** 20 };
  const device = { device: 0, samples: 9, total_bytes: 80 * GiB, used_bytes: 5 * GiB, process_bytes: 3 * GiB, traced_bytes: GiB, module_bytes: 0,
    residual: { first: GiB, last: 2 * GiB, bytes_per_hour: 2 ** 20, bytes_per_hour_low: 0, bytes_per_hour_high: 2 ** 21,
      stages: [{ stage: 'context', count: 1, bytes: GiB }, { stage: 'library', count: 1, bytes: GiB }] } };
  const [first] = report.processes;
  const page = await open(write('nvml.html', { ...synthetic(10, (index) => `f${index}`), processes: [{ ...first, gpu: [ledger], gpu_devices: [device] }] }));
  const text = await page.textContent('#gpu');
  assert.match(text, /5\.00 GiB of 80\.0 GiB in use, 3\.00 GiB by this process, 1\.00 GiB of it traced/);
  assert.match(text, /Not traced: 2\.00 GiB, 1\.00 GiB at first, \+1\.00 MiB per hour/);
  assert.match(text, /first use of libraries.*1\.00 GiB/);
  assert.match(text, /Estimate: 1\.00 MiB more/);
  await close(page);
});

for (const [width, height] of [[1440, 1000], [390, 844]]) {
  for (const scheme of ['light', 'dark']) {
    test(`${width} pixels wide, ${scheme}: it fits, and no rule of accessibility is broken`, async () => {
      const page = await open(REPORT, { width, height, scheme });
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= width);
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
      assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => `${html} ${failureSummary}`).join(' | ')}`), []);
      if (width < 640) assert.deepEqual(await smallTargets(page), []);
      await page.screenshot({ path: join(SCREENSHOTS, `report-${width}-${scheme}.png`), fullPage: true });
      await page.click('#groups tr[data-place="0"]');
      await page.evaluate(axe);
      const dialog = await page.evaluate(() => window.axe.run('dialog', { runOnly: ['wcag2a', 'wcag2aa'] }));
      assert.deepEqual(dialog.violations.map(({ id }) => id), []);
      await page.screenshot({ path: join(SCREENSHOTS, `details-${width}-${scheme}.png`) });
      await close(page);
    });
  }
}

test('the other colours at the press of a button', async () => {
  const page = await open(REPORT);
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await page.click('#theme');
  assert.notEqual(await background(), light);
  assert.equal(await page.textContent('#theme'), 'Light');
  await page.click('#theme');
  assert.equal(await background(), light);
  await close(page);
});

// A page of our own making: the built one with other data.
function write(name, data) {
  const file = join(SCREENSHOTS, name);
  const page = readFileSync(join(PAGE, 'page.html'), 'utf8');
  const packed = gzipSync(JSON.stringify(data), { level: 1 }).toString('base64');
  writeFileSync(file, page.replace('<!--ollamatrace:data-->', `<script type="application/gzip" id="report-data">${packed}</script>`));
  return file;
}

function synthetic(groups, name) {
  const frames = [];
  for (let i = 0; i < 5000; ++i) {
    frames.push({ function: name(i), file: `src/file${i % 200}.cc`, line: i % 900 + 1, module: `/lib/lib${i % 30}.so`, offset: i, inlined: false });
  }
  const times = Array.from({ length: 240 }, (_, index) => index + 1);
  return {
    ...report, title: 'synthetic', frames, phases: [], cycles: [], orphans: [], fragmentation: null,
    timeline: { times, requests: times, processes: [] },
    session: { ...report.session, groups },
    groups: Array.from({ length: groups }, (_, index) => ({
      ...report.groups[0], rank: index + 1, process: 0, pids: [report.processes[0].pid], mapping: null, domain: 'heap',
      live_bytes: groups - index, live_blocks: 1, verdict: index % 2 ? 'cache' : 'one-time', blamed_frame: 0,
      curve: [index % 200, 5, index % 200 + 20, groups - index],
      frames: Array.from({ length: 20 }, (_, depth) => (depth === 19 ? 0 : (index * 31 + Math.floor(index / (depth + 1)) * 17) % 5000)),
    })),
  };
}

test('50 000 groups: few rows are in the document, and the last can be reached', async () => {
  const page = await open(write('many.html', synthetic(50000, (index) => `app::Function${index}(int)`)));
  assert.equal(await shownGroups(page), 50000);
  assert.ok(await page.locator('#groups tbody tr').count() < 200);
  await page.locator('#groups .tall').evaluate((element) => {
    element.scrollTop = element.scrollHeight;
  });
  await page.waitForSelector('#groups tr[data-place="49999"]');
  assert.equal(await cell(page, 49999, 'rank'), '50000');
  assert.ok(await page.locator('#flame g.frame').count() < 20000);
  await page.fill('#search', 'function4999(');
  await page.waitForFunction(() => !document.getElementById('shown').textContent.startsWith('50,000'));
  assert.ok(await shownGroups(page) > 0);
  await close(page);
});

test('names are text, whatever they hold', async () => {
  const data = synthetic(10, () => '<img src=x onerror="document.title=\'owned\'">');
  data.headline = '</script><b>bold</b>';
  const page = await open(write('hostile.html', data));
  assert.equal(await page.textContent('h1'), data.headline);
  assert.equal(await page.locator('img, h1 b').count(), 0);
  await page.click('#groups tr[data-place="0"]');
  assert.equal(await page.locator('img').count(), 0);
  assert.doesNotMatch(await page.title(), /owned/);
  await close(page);
});

test('a page without data says so', async () => {
  const page = await browser.newPage();
  await page.goto(pathToFileURL(join(PAGE, 'page.html')).href);
  await page.waitForFunction(() => document.querySelector('h1').textContent.startsWith('This report cannot be shown'));
  await page.close();
});
