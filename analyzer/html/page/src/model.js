// The report, prepared for questions; and the page's state. No DOM here: tests run it in node.
import { baseName, count, frameName, processName } from './format.js';

const kHostDomains = new Set(['heap', 'mapping', 'break']);

export const kMetrics = {
  live: { name: 'Live', unit: 'bytes', windowed: true,
    help: 'Bytes that are live at the end, or at the end of the selected time' },
  growth: { name: 'Growth', unit: 'bytes', windowed: true,
    help: 'Bytes by which it grew after the warm-up, or within the selected time' },
  peak: { name: 'Peak', unit: 'bytes', windowed: true,
    help: 'The most bytes that each group held; groups peak at different moments' },
  freed: { name: 'Temporary', unit: 'blocks', windowed: false,
    help: 'Blocks that were freed again, of the whole session' },
  pinned: { name: 'Pinned', unit: 'bytes', windowed: false,
    help: 'Unused bytes of pages that survivors keep from being returned, at the last memory map' },
};

// GPU domains that refer to memory of others, or are merely counted.
const kReferring = new Set(['graph', 'graph-exec', 'address-space', 'mapped', 'registered', 'imported']);

// A file mapping or a reservation keeps no memory. Of a group, or of a domain in the timeline.
export const countsAsMemory = ({ domain, mapping }) => (mapping === null || mapping === 'anonymous') && !kReferring.has(domain);

// [index, level, index, level, ...] to a level for each moment; null where the process did not live.
export function expandCurve(changes, length) {
  const curve = new Array(length).fill(null);
  let level = null;
  let next = 0;
  for (let i = 0; i < length; ++i) {
    while (next < changes.length && changes[next] === i) {
      level = changes[next + 1];
      next += 2;
    }
    curve[i] = level;
  }
  return curve;
}

// The level at moment `index`, 0 where there is none.
export function levelAt(changes, index) {
  let low = 0;
  let high = changes.length / 2;  // of changes at or before `index`
  while (low < high) {
    const middle = (low + high) >> 1;
    if (changes[2 * middle] <= index) low = middle + 1;
    else high = middle;
  }
  return low === 0 ? 0 : changes[2 * low - 1] ?? 0;
}

function peakWithin(changes, first, last) {
  let peak = levelAt(changes, first);
  for (let i = 0; i < changes.length; i += 2) {
    if (changes[i] > first && changes[i] <= last) peak = Math.max(peak, changes[i + 1] ?? 0);
  }
  return peak;
}

export class Model {
  constructor(report) {
    this.report = report;
    this.times = report.timeline?.times ?? [];
    this.frames = report.frames;
    this.groups = report.groups;
    this.processes = report.processes;
    this.noun = { function: 'functions', module: 'modules', thread: 'threads' }[report.session?.group_by] ?? 'stacks';
    this.liveGroups = this.groups.filter((group) => group.live_blocks > 0 && countsAsMemory(group)).length;
    for (const group of this.groups) {
      group.isHost = kHostDomains.has(group.domain);
      group.blamed = group.frames.length ? this.frames[group.frames[group.blamed_frame ?? 0]] : null;
      group.blamedName = group.blamed ? frameName(group.blamed) : group.thread ?? '(no stack)';
      group.processNames = this.#processesOf(group).map(processName).join(', ');
    }
    // Lower case once: searching 50 000 stacks is a look-up of frames then.
    this.frameText = this.frames.map((frame) =>
      `${frame.function ?? ''}\n${frame.file ?? ''}\n${frame.module ?? ''}`.toLowerCase());
    this.pins = this.#pins();
  }

  // "1 stack", "2 stacks".
  many(groups) {
    return `${count(groups)} ${groups === 1 ? this.noun.slice(0, -1) : this.noun}`;
  }

  #processesOf(group) {
    if (group.process !== null) return [this.processes[group.process]];
    return group.pids.map((pid) => this.processes.find((process) => process.pid === pid)).filter(Boolean);
  }

  // Pins as groups: stacks with frames of the same table.
  #pins() {
    const known = new Map(this.frames.map((frame, index) => [frameKey(frame), index]));
    const pins = [];
    for (const one of this.report.fragmentation?.host ?? []) {
      for (const pin of one.pins) {
        const frames = pin.frames.map((frame) => known.get(frameKey(frame))).filter((index) => index !== undefined);
        pins.push({ ...pin, frames, process: one.process, isHost: true, verdict: 'pinned', domain: 'heap' });
      }
    }
    return pins;
  }

  // Which groups pass, as indices; `state` as in kNoFilter.
  filter(state) {
    const term = state.search.trim().toLowerCase();
    const hit = term ? this.frameText.map((text) => text.includes(term)) : null;
    const indices = [];
    for (let i = 0; i < this.groups.length; ++i) {
      if (this.#passes(this.groups[i], state, hit, term)) indices.push(i);
    }
    return indices;
  }

  filterPins(state) {
    const term = state.search.trim().toLowerCase();
    const hit = term ? this.frameText.map((text) => text.includes(term)) : null;
    return this.pins.filter((pin) => this.#passes(pin, { ...state, verdict: '' }, hit, term));
  }

  #passes(group, state, hit, term) {
    if (state.kind !== 'all' && group.isHost !== (state.kind === 'host')) return false;
    if (state.verdict && group.verdict !== state.verdict) return false;
    if (state.process !== null && !this.#isOf(group, state.process)) return false;
    return !hit || group.frames.some((frame) => hit[frame]) ||
      (group.site ?? '').toLowerCase().includes(term);
  }

  #isOf(group, process) {
    if (group.process !== null && group.process !== undefined) return group.process === process;
    return group.pids.includes(this.processes[process].pid);
  }

  // What `metric` says of a group; of the window where there is one and the metric knows windows.
  value(group, metric, window) {
    if (metric === 'pinned') return group.pinned ?? 0;
    if (metric === 'freed') return group.frees;
    if (window && group.curve) {
      const [first, last] = window;
      if (metric === 'live') return levelAt(group.curve, last);
      if (metric === 'growth') return levelAt(group.curve, last) - levelAt(group.curve, first);
      return peakWithin(group.curve, first, last);
    }
    if (metric === 'live') return group.live_bytes;
    return metric === 'growth' ? group.growth_bytes : group.peak_bytes;
  }
}

export const kNoFilter = Object.freeze({ search: '', kind: 'all', process: null, verdict: '', window: null });

export const isFiltered = (state) => Object.entries(kNoFilter).some(([name, value]) => state[name] !== value);

export const frameKey = (frame) =>
  `${frame.function ?? ''}\n${frame.file ?? ''}\n${frame.line ?? ''}\n${frame.module ?? ''}\n${frame.function && frame.file ? '' : frame.offset}`;

export { baseName };
