// Puts the page together: one state, and views that show what it lets through.
import { readData } from './data.js';
import { showAnswer } from './answer.js';
import { showDetails } from './details.js';
import { element } from './dom.js';
import { FlameView } from './flame.js';
import { bytes, count, percent, processName, seconds } from './format.js';
import { showGpu } from './gpu.js';
import { GroupsView } from './groups.js';
import { countsAsMemory, isFiltered, kNoFilter, Model } from './model.js';
import { showAccounting, showCoverage, showCycles, showDiff, showFragmentation, showProcesses } from './sections.js';
import { TimelineView } from './timeline.js';
import { isBad, kVerdictWords } from './verdicts.js';
import './style.css';

const byId = (id) => document.getElementById(id);
const body = (id) => byId(id).querySelector('.body');

function showHead(model) {
  const { report } = model;
  const { session } = report;
  byId('title').textContent = report.title ?? '';
  document.title = `${report.title}: ollama-leakview`;
  byId('headline').textContent = report.headline ?? 'Nothing is live.';
  const lasted = seconds(session.duration);
  byId('facts').textContent = [
    session.start_time ? `Recorded ${session.start_time.slice(0, 16).replace('T', ' ')} UTC` : '',
    lasted, `${count(report.processes.length)} ${report.processes.length === 1 ? 'process' : 'processes'}`,
    session.requests ? `${count(session.requests)} requests` : '',
    `${bytes(session.live_bytes)} live in ${model.many(model.liveGroups)}`,
    report.coverage.complete ? '' : 'NOT COMPLETE, see below',
  ].filter(Boolean).join(' · ');
}

// Live bytes by verdict, as buttons that filter.
function showVerdicts(model, onChoose) {
  const sums = new Map();
  for (const group of model.groups) {
    if (!countsAsMemory(group) || group.verdict === 'freed') continue;
    const sum = sums.get(group.verdict) ?? { bytes: 0, groups: 0 };
    sum.bytes += group.live_bytes;
    ++sum.groups;
    sums.set(group.verdict, sum);
  }
  const whole = [...sums.values()].reduce((total, sum) => total + sum.bytes, 0);
  const order = [...sums].sort(([a, x], [b, y]) => isBad(b) - isBad(a) || y.bytes - x.bytes);
  byId('verdicts').replaceChildren(...order.map(([verdict, sum]) => element('li', {},
    element('button', { type: 'button', 'data-verdict': verdict, onclick: () => onChoose(verdict) },
      element('strong', {}, verdict), ` ${bytes(sum.bytes)}`, element('small', {}, ` ${percent(sum.bytes, whole)}, ${model.many(sum.groups)}`),
      element('small', { class: 'words' }, kVerdictWords[verdict] ?? '')))));
}

class Page {
  constructor({ report, diff }) {
    this.model = new Model(report);
    this.state = { ...kNoFilter };
    showHead(this.model);
    showVerdicts(this.model, (verdict) => {
      byId('verdict').value = this.state.verdict === verdict ? '' : verdict;
      this.set({ verdict: byId('verdict').value });
      byId('groups').scrollIntoView({ block: 'start' });
    });
    const open = (index) => showDetails(this.model, index, byId('details'));
    showAnswer(this.model, byId('answer'), open);
    this.groups = new GroupsView(this.model, body('groups'), open);
    this.flame = new FlameView(this.model, body('flame'), (groups) => this.groups.choose(groups));
    this.timeline = new TimelineView(this.model, body('time'), (window) => this.set({ window }));
    showProcesses(report, body('processes'), null);
    byId('accounting').hidden = !showAccounting(report, body('accounting'));
    byId('fragmentation').hidden = !showFragmentation(report, body('fragmentation'));
    byId('gpu').hidden = !showGpu(report, body('gpu'));
    byId('cycles').hidden = !showCycles(report, body('cycles'));
    showCoverage(report, body('coverage'));
    if (diff) {
      showDiff(diff, body('diff'));
      byId('diff').hidden = false;
    }
    byId('groups-title').textContent = `All ${this.model.noun}, ranked`;
    this.#filters();
    this.#sections();
    this.set({});
  }

  set(change) {
    Object.assign(this.state, change);
    const { model, state } = this;
    if ('window' in change) showProcesses(model.report, body('processes'), state.window);
    const indices = model.filter(state);
    this.groups.chosen = null;
    this.groups.only.hidden = true;
    this.groups.show(indices, state);
    this.flame.show(indices, state);
    byId('clear').hidden = !isFiltered(state);
    for (const button of byId('verdicts').querySelectorAll('button')) {
      button.setAttribute('aria-pressed', String(button.dataset.verdict === state.verdict));
    }
    let live = 0;
    for (const index of indices) {
      if (countsAsMemory(model.groups[index])) live += model.value(model.groups[index], 'live', state.window);
    }
    byId('shown').textContent = `${count(indices.length)} of ${model.many(model.groups.length)}, ${bytes(live)} live${
      state.window ? ` at ${seconds(model.times[state.window[1]])}` : ''}`;
  }

  #filters() {
    const { model } = this;
    byId('process').append(element('option', { value: '' }, 'all'),
      ...model.processes.map((process, index) => element('option', { value: index }, processName(process))));
    byId('verdict').append(element('option', { value: '' }, 'all'),
      ...[...new Set(model.groups.map(({ verdict }) => verdict))].sort().map((verdict) => element('option', {}, verdict)));
    byId('search').addEventListener('input', (event) => {
      cancelAnimationFrame(this.pending);
      this.pending = requestAnimationFrame(() => this.set({ search: event.target.value }));
    });
    byId('kind').addEventListener('change', (event) => this.set({ kind: event.target.value }));
    byId('process').addEventListener('change', (event) => this.set({ process: event.target.value === '' ? null : Number(event.target.value) }));
    byId('verdict').addEventListener('change', (event) => this.set({ verdict: event.target.value }));
    byId('clear').addEventListener('click', () => {
      byId('search').value = byId('process').value = byId('verdict').value = '';
      byId('kind').value = 'all';
      Object.assign(this.state, kNoFilter);
      this.timeline.clear();
      this.set({});
      byId('search').focus();
    });
    document.addEventListener('keydown', (event) => {
      if (event.key === '/' && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
        event.preventDefault();
        byId('search').focus();
      }
    });
  }

  #sections() {
    byId('sections').append(...[...document.querySelectorAll('main > section')].filter((section) => !section.hidden)
      .map((section) => element('a', { href: `#${section.id}` }, section.querySelector('h2').textContent)));
  }
}

function showTheme(page) {
  const root = document.documentElement;
  const dark = () => (root.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
  const label = () => {
    byId('theme').textContent = dark() ? 'Light' : 'Dark';
  };
  byId('theme').addEventListener('click', () => {
    root.dataset.theme = dark() ? 'light' : 'dark';
    label();
    page.timeline.redraw();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    label();
    page.timeline.redraw();
  });
  label();
}

readData().then((data) => {
  showTheme(new Page(data));
  document.documentElement.dataset.ready = 'true';
}).catch((error) => {
  byId('headline').textContent = `This report cannot be shown: ${error.message}`;
  throw error;
});
