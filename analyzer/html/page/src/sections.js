// The parts of the page that only tell: processes, accounting, fragmentation, GPU, cycles, coverage, diff.
import { baseName, bytes, count, frameName, framePlace, percent, processName, seconds, shortName } from './format.js';
import { element, number, table } from './dom.js';

const size = (value) => number(bytes(value));

function blamedText(pin) {
  if (pin.blamed_frame === null || !pin.frames.length) return '(no stack)';
  const frame = pin.frames[pin.blamed_frame];
  const place = framePlace(frame);
  return `${shortName(frameName(frame))}${place ? ` (${baseName(place)})` : ''}`;
}

// One bar of coloured parts; parts without bytes are left out.
function bar(label, parts, whole) {
  return element('div', { class: 'stacked', role: 'img',
    'aria-label': `${label}: ${parts.map(({ name, bytes: value }) => `${name} ${bytes(value)}`).join(', ')}` },
  parts.map(({ name, bytes: value }, index) => value > 0 && element('span', {
    class: `part part-${index % 12}`, title: `${name}: ${bytes(value)}, ${percent(value, whole)}`,
    style: { 'flex-grow': value / whole } })));
}

// The heap of a process at a moment of the timeline; null where it did not live.
function heapAt(report, process, moment) {
  const row = report.timeline.processes.find((one) => one.process === process);
  return row?.domains.find(({ domain }) => domain === 'heap')?.live_bytes[moment] ?? null;
}

// `window`: as Model's.
export function showProcesses(report, body, window) {
  const children = report.processes.map(() => []);
  const roots = [];
  report.processes.forEach((process, index) => (process.parent === null ? roots : children[process.parent]).push(index));
  const item = (index) => {
    const process = report.processes[index];
    const end = { running: 'runs', killed: 'killed, or left by _exit as Go programs do' }[process.end] ?? process.end;
    const live = window ? heapAt(report, index, window[1]) : process.host.live_bytes;
    return element('li', {},
      element('details', { open: true },
        element('summary', {}, element('strong', {}, processName(process)), live === null ? ' did not live then; ' : ` ${bytes(live)} live on the heap${window ? ' then' : ''}, `,
          `peak ${bytes(process.host.peak_bytes)}`, process.memory.rss_anon !== null ? `, in RAM (RssAnon) ${bytes(process.memory.rss_anon)}` : '',
          `; ${seconds(process.start)} to ${seconds(process.last)}, ${end}`,
          process.lost_events ? element('em', {}, ` ${count(process.lost_events)} events lost`) : ''),
        element('p', { class: 'command' }, process.argv.join(' ') || process.exe),
        children[index].length ? element('ul', { class: 'tree' }, children[index].map(item)) : ''));
  };
  body.replaceChildren(element('ul', { class: 'tree' }, roots.map(item)));
}

export function showAccounting(report, body) {
  const known = report.processes.filter((process) => process.memory.accounting);
  for (const process of known) {
    const { accounting, files } = process.memory;
    const rows = accounting.rows.filter((row) => row.bytes > 0);
    body.append(
      element('h3', {}, `${processName(process)}: RssAnon and swap, ${bytes(accounting.total)}, at ${seconds(accounting.at)}`),
      bar('Accounting', rows, accounting.total),
      table(`Where the anonymous memory of ${processName(process)} is`, ['What', number('Bytes'), number('Share'), 'How it is known', 'Most of it'],
        rows.map((row, index) => [
          element('span', {}, element('i', { class: `swatch part-${index % 12}` }), row.name), size(row.bytes),
          number(percent(row.bytes, accounting.total)), row.how,
          row.parts.slice(0, 3).map(({ name, bytes: value }) => `${name} ${bytes(value)}`).join('; ')])));
    if (files?.length) {
      const most = files.slice(0, 20);
      body.append(element('details', {},
        element('summary', {}, `Files in memory, ${bytes(files.reduce((total, file) => total + file.rss, 0))}${files.length > most.length ? `, the ${most.length} largest of ${files.length}` : ''}`),
        table(`Files that ${processName(process)} has in memory`, ['File', number('In memory'), number('Shared'), 'Kind'],
          most.map((file) => [file.path, size(file.rss), size(file.shared), file.kind]))));
    }
  }
  return known.length > 0;
}

const kUse = ['free', '≤ 10 %', '≤ 20 %', '≤ 30 %', '≤ 40 %', '≤ 50 %', '≤ 60 %', '≤ 70 %', '≤ 80 %', '≤ 90 %', '≤ 100 %'];

// Cells of the heap in the order of addresses; the colour is the stack that pins, the strength the use.
function heapMap(heap, pins) {
  if (!heap.map?.cells?.length) return null;
  const cells = heap.map.cells.map(([held, used, pin]) => {
    const use = held > 0 ? used / held : 0;
    const text = held === 0 ? 'not in memory'
      : `${bytes(held)} in memory, ${percent(used, held)} in use${pin === null ? '' : `, pinned by ${blamedText(pins[pin])}`}`;
    return element('span', { class: `cell ${held === 0 ? 'absent' : pin === null ? '' : `part-${pin % 12}`}`, title: text,
      style: { '--use': held === 0 ? 0 : ((pin === null ? 0.15 : 0.55) + (pin === null ? 0.85 : 0.45) * use).toFixed(2) } });
  });
  return element('div', { class: 'heap-map', role: 'img',
    'aria-label': `Map of ${heap.name}: ${heap.map.cells.length} cells of ${bytes(heap.map.cell_bytes)}` }, cells);
}

const kLargeHeap = 0.05;  // of what all heaps keep

function showHeap(heap, pins) {
  const pages = heap.pages_by_use.reduce((a, b) => a + b, 0);
  return element('div', {},
    element('h4', {}, `${heap.name}: ${bytes(heap.held)} of ${bytes(heap.size)} in memory, largest free run ${bytes(heap.largest_free_run)}`),
    heapMap(heap, pins),
    pages > 0 && element('div', { class: 'use', role: 'img',
      'aria-label': `Pages by use: ${heap.pages_by_use.map((value, index) => `${kUse[index]} ${count(value)}`).join(', ')}` },
    heap.pages_by_use.map((value, index) => value > 0 && element('span', { class: `use-${index}`, title: `${count(value)} pages ${kUse[index]} in use`,
      style: { 'flex-grow': value / pages } }, value / pages > 0.08 ? kUse[index] : ''))));
}

export function showFragmentation(report, body) {
  const host = report.fragmentation?.host ?? [];
  for (const one of host) {
    const process = report.processes[one.process];
    body.append(
      element('h3', {}, `${processName(process)} at ${seconds(one.at)}`),
      element('p', {}, `The heap keeps ${bytes(one.held)} in memory; ${bytes(one.live_bytes)} are live, ${bytes(one.free_held)} free. `,
        `malloc_trim would return ${bytes(one.trimmable)} now, and ${bytes(one.released_by_all)} more without the blocks of the stacks below.`,
        one.exact ? '' : ' (which pages are in memory is known in part only)'),
      element('p', { class: 'note' }, 'The maps show each heap by address: the darker a square, the more of it is in use; a coloured one is kept in memory by little, and the colour tells in the table below by whom; an empty one is not in memory. The bars are its pages by use.'));
    const heaps = one.heaps.filter(({ held }) => held > 0);
    const large = heaps.filter(({ held }, index) => index === 0 || held >= kLargeHeap * one.held);
    const small = heaps.filter((heap) => !large.includes(heap));
    body.append(...large.map((heap) => showHeap(heap, one.pins)));
    if (small.length) {
      body.append(element('details', {},
        element('summary', {}, `${count(small.length)} small ${small.length === 1 ? 'heap' : 'heaps'} more, ${bytes(small.reduce((total, { held }) => total + held, 0))} in memory`),
        small.slice(0, 20).map((heap) => showHeap(heap, one.pins))));
    }
    if (one.pins.length) {
      body.append(table(`Who pins pages of ${processName(process)}`, ['Stack', number('Blocks'), number('Bytes'), number('Pages'), number('Pins'), number('Would be released')],
        one.pins.map((pin, index) => [element('span', {}, element('i', { class: `swatch part-${index % 12}` }), blamedText(pin)),
          number(count(pin.blocks)), size(pin.bytes), number(count(pin.pages)), size(pin.pinned), size(pin.released)])));
    }
  }
  return host.length > 0;
}

export function showCycles(report, body) {
  if (report.phases.length) {
    body.append(table('Phases', ['Phase', 'Kind', number('Begin'), number('End'), number('Requests'), number('Before'), number('Peak'), number('After'), number('Idle growth')],
      report.phases.map((phase) => [phase.name, phase.kind, number(seconds(phase.begin)), number(seconds(phase.end)), number(count(phase.requests)),
        size(phase.begin_bytes), size(phase.peak_bytes), size(phase.end_bytes),
        number(phase.idle_bytes_per_hour === null ? '' : `${bytes(phase.idle_bytes_per_hour)}/h`)])));
  }
  if (report.cycles.length) {
    body.append(table('Load cycles', [number('Loaded'), number('Unloaded'), number('Before'), number('Peak'), number('After'), number('Survived'), number('Recovered after'), 'Killed'],
      report.cycles.map((cycle) => [number(seconds(cycle.loaded)), number(seconds(cycle.unload)), size(cycle.before_bytes), size(cycle.peak_bytes),
        size(cycle.after_bytes), size(cycle.survived_bytes), number(cycle.recovery_seconds === null ? 'never' : seconds(cycle.recovery_seconds)),
        cycle.killed.length ? `${cycle.killed.join(', ')} (held ${bytes(cycle.killed_bytes)})` : ''])));
  }
  for (const orphan of report.orphans) {
    body.append(element('p', {}, `Process ${orphan.pid} outlived ${orphan.parent}, which had started it, by ${seconds(orphan.outlived)}.`));
  }
  return report.phases.length + report.cycles.length + report.orphans.length > 0;
}

const kSources = { dwarf: 'debug information', go: 'Go\u2019s table', symtab: 'symbol table', dynsym: 'exported symbols', none: 'nowhere' };

export function showCoverage(report, body) {
  const { coverage } = report;
  body.append(element('p', {}, coverage.complete ? 'Complete: nothing was lost, damaged or left out.'
    : `Not complete: ${count(coverage.lost_events)} events lost, ${count(coverage.damaged_chunks)} damaged chunks, ${count(coverage.unreadable_traces)} unreadable traces, ${count(coverage.unmatched_frees)} frees of unknown blocks.`));
  if (coverage.notes.length) body.append(element('ul', {}, coverage.notes.map((note) => element('li', {}, note))));
  if (coverage.modules_without_lines.length) {
    const modules = coverage.modules_without_lines;
    const missing = modules.filter(({ state }) => state === 'no-file' || state === 'build-id-differs');
    if (missing.length) {
      body.append(element('p', { class: 'warn' }, `The files of ${count(missing.length)} modules were not there: run \u201collama-leakview symbolize\u201d where they are, then make this page again.`));
    }
    body.append(element('details', {},
      element('summary', {}, `${count(modules.length)} modules whose frames could not be named fully, with file and line`),
      table('Modules whose frames could not be named fully', ['Module', 'Names from', 'Why'], modules.map((module) =>
        [module.path, kSources[module.symbols] ?? module.symbols, module.message ?? 'no debug information']))));
  }
}

export function showDiff(diff, body) {
  const { before, after } = diff;
  body.append(
    element('p', {}, `${before.title}: ${bytes(before.live_bytes)} live after ${count(before.requests)} requests in ${seconds(before.duration)}. `,
      `${after.title}: ${bytes(after.live_bytes)} after ${count(after.requests)} in ${seconds(after.duration)}.`),
    table('What changed, the most growth first', ['Change', number('By'), number('Before'), number('After'), 'Function', 'Program', 'Verdict'],
      diff.groups.filter((group) => group.change !== 'same').slice(0, 200).map((group) => [
        group.change, number(`${group.delta_bytes > 0 ? '+' : ''}${bytes(group.delta_bytes)}`),
        size(group.before?.live_bytes ?? 0), size(group.after?.live_bytes ?? 0), blamedText(group), group.program,
        (group.after ?? group.before).verdict])));
}
