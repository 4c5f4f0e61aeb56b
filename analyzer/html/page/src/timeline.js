// Live bytes over time, with phases as bands and a brush that filters the page.
import uPlot from 'uplot';
import { bytes, clock, processName, seconds } from './format.js';
import { element } from './dom.js';
import { countsAsMemory } from './model.js';

const kHeight = 260;
const kMostProcesses = 6;
// Between the marks of the time axis, in seconds.
const kSteps = [...[1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1].flatMap((power) => [power, 2 * power, 5 * power]),
  ...[10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000]];

const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Sums curves; null only where all are.
function sum(curves, length) {
  const total = new Array(length).fill(null);
  for (const curve of curves) {
    curve.forEach((level, index) => {
      if (level !== null) total[index] = (total[index] ?? 0) + level;
    });
  }
  return total;
}

// The window in seconds to indices of moments [first, last]; null for the whole.
export function windowOf(times, begin, end) {
  if (!(end > begin)) return null;
  // Typed times are rounded.
  const slack = (times.at(-1) - times[0]) / times.length / 4;
  let first = 0;
  while (first + 1 < times.length && times[first + 1] <= begin + slack) ++first;
  let last = times.length - 1;
  while (last > first && times[last] > end + slack) --last;
  return last > first ? [first, last] : null;
}

export class TimelineView {
  constructor(model, body, onWindow) {
    this.model = model;
    this.onWindow = onWindow;
    this.chart = element('div', { class: 'chart', role: 'img' });
    this.from = element('input', { type: 'number', step: 'any', id: 'from', min: 0 });
    this.to = element('input', { type: 'number', step: 'any', id: 'to', min: 0 });
    for (const input of [this.from, this.to]) input.addEventListener('change', () => this.#typed());
    this.whole = element('button', { type: 'button', id: 'whole', hidden: true, onclick: () => this.#choose(null) }, 'Whole session');
    this.phases = element('div', { class: 'phases' });
    body.append(
      element('p', { class: 'note' }, 'Live bytes. Drag over the chart to select a time: the page then tells of it. What was freed soon after it was allocated is not in the curves (in mode full it is).'),
      this.chart,
      element('div', { class: 'controls' }, element('label', {}, 'From ', this.from, ' s'), element('label', {}, 'to ', this.to, ' s'), this.whole),
      this.phases);
    if (model.times.length < 2) {
      body.replaceChildren(element('p', { class: 'note' }, 'No timeline: the session was too short.'));
      return;
    }
    for (const phase of model.report.phases) {
      this.phases.append(element('button', { type: 'button', class: 'phase', 'data-kind': phase.kind,
        onclick: () => this.#select(phase.begin, phase.end) },
      `${phase.name} ${seconds(phase.end - phase.begin)}`));
    }
    this.#draw();
    new ResizeObserver(() => this.plot?.setSize({ width: this.chart.clientWidth, height: kHeight })).observe(this.chart);
  }

  #series() {
    const { times, processes, report } = this.model;
    const length = times.length;
    const rows = report.timeline.processes.map((one) => ({
      name: processName(processes[one.process]),
      live: sum(one.domains.filter(countsAsMemory).map((domain) => domain.live_bytes), length),
      rss: one.rss_anon,
    }));
    const series = [
      { label: 'live, all processes', values: sum(rows.map((row) => row.live), length), colour: '--line-0', width: 2 },
      { label: 'in RAM (RssAnon), all processes', values: sum(rows.map((row) => row.rss), length), colour: '--line-1', dash: [6, 4] },
    ];
    if (rows.length > 1) {
      rows.sort((a, b) => Math.max(...b.live.map((level) => level ?? 0)) - Math.max(...a.live.map((level) => level ?? 0)));
      rows.slice(0, kMostProcesses).forEach((row, index) => {
        series.push({ label: row.name, values: row.live, colour: `--line-${2 + index}` });
      });
    }
    return series.filter(({ values }) => values.some((level) => level !== null));
  }

  redraw() {
    if (this.plot) this.#draw();
  }

  #draw() {
    const { times, report } = this.model;
    const series = this.#series();
    this.plot?.destroy();
    this.chart.setAttribute('aria-label', series.map(({ label, values }) => {
      const known = values.filter((level) => level !== null);
      return `${label}: from ${bytes(known[0])} to ${bytes(known.at(-1))}, at most ${bytes(Math.max(...known))}`;
    }).join('; '));
    const axis = { stroke: colourOf('--text'), grid: { stroke: colourOf('--grid') }, ticks: { stroke: colourOf('--grid') } };
    this.plot = new uPlot({
      width: this.chart.clientWidth || 300,
      height: kHeight,
      padding: [null, 24, null, null],  // the last mark's text
      cursor: { drag: { x: true, y: false, setScale: false } },
      scales: { x: { time: false }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high ?? 1) * 1.05 || 1] } },
      axes: [
        { ...axis, space: 54, incrs: kSteps, values: (_, splits, __, ___, step) => splits.map((split) => clock(split, step, times.at(-1))) },
        { ...axis, size: 76, values: (_, splits) => splits.map((split) => bytes(split)),
          incrs: Array.from({ length: 45 }, (_, power) => 2 ** power) },
      ],
      series: [
        { label: 'Time', value: (_, value) => (value === null ? '' : seconds(value)) },
        ...series.map(({ label, colour, width, dash }) => ({
          label, dash, width: width ?? 1, stroke: colourOf(colour), points: { show: false },
          value: (_, value) => (value === null || value === undefined ? '' : bytes(value)),
        })),
      ],
      hooks: {
        drawClear: [(plot) => this.#bands(plot, report.phases, false)],
        draw: [(plot) => this.#bands(plot, report.phases, true)],
        setCursor: [(plot) => this.chart.classList.toggle('pointed', plot.cursor.idx !== null && plot.cursor.idx !== undefined)],
        setSelect: [(plot) => {
          if (plot.select.width < 3) return this.#choose(null);
          this.#select(plot.posToVal(plot.select.left, 'x'), plot.posToVal(plot.select.left + plot.select.width, 'x'));
        }],
      },
    }, [times, ...series.map(({ values }) => values)], this.chart);
  }

  #bands(plot, phases, names) {
    const { ctx, bbox } = plot;
    ctx.save();
    phases.forEach((phase, index) => {
      const left = Math.max(bbox.left, plot.valToPos(phase.begin, 'x', true));
      const right = Math.min(bbox.left + bbox.width, plot.valToPos(phase.end, 'x', true));
      if (right <= left) return;
      if (!names) {
        ctx.fillStyle = colourOf(index % 2 ? '--band-0' : '--band-1');
        ctx.fillRect(left, bbox.top, right - left, bbox.height);
        return;
      }
      ctx.fillStyle = colourOf('--muted');
      ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
      ctx.textAlign = 'left';
      const wide = ctx.measureText(phase.name).width;
      if (wide + 6 < right - left) ctx.fillText(phase.name, left + 4, bbox.top + 12 * devicePixelRatio);
    });
    ctx.restore();
  }

  #typed() {
    const begin = this.from.value === '' ? 0 : Number(this.from.value);
    const end = this.to.value === '' ? this.model.times.at(-1) : Number(this.to.value);
    // The fields stay as they were typed: one may be half done.
    this.#choose(windowOf(this.model.times, begin, end), false);
  }

  #select(begin, end) {
    this.#choose(windowOf(this.model.times, begin, end));
  }

  #choose(window, write = true) {
    const { times } = this.model;
    this.whole.hidden = window === null;
    const digits = Math.min(9, Math.max(1, 2 - Math.floor(Math.log10(times.at(-1) / times.length))));
    if (write) {
      this.from.value = window ? times[window[0]].toFixed(digits) : '';
      this.to.value = window ? times[window[1]].toFixed(digits) : '';
    }
    if (this.plot) {
      const left = window ? this.plot.valToPos(times[window[0]], 'x') : 0;
      const right = window ? this.plot.valToPos(times[window[1]], 'x') : 0;
      this.plot.setSelect({ left, width: right - left, top: 0, height: window ? this.plot.over.clientHeight : 0 }, false);
    }
    this.onWindow(window);
  }

  clear() {
    if (this.plot) this.#choose(null);
  }
}
