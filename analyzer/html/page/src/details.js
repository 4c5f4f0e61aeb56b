// One group: the verdict's evidence, what to do, the curve, the stack.
import { bytes, count, framePlace, frameName, baseName, seconds } from './format.js';
import { element } from './dom.js';
import { expandCurve } from './model.js';
import { rateOf } from './groups.js';

const kWidth = 600;
const kHeight = 90;

function curve(model, group) {
  if (!group.curve || model.times.length < 2) return null;
  const levels = expandCurve(group.curve, model.times.length);
  const most = Math.max(...levels.map((level) => level ?? 0));
  if (most <= 0) return null;
  const [begin, end] = [model.times[0], model.times.at(-1)];
  let path = '';
  let inside = false;
  levels.forEach((level, index) => {
    if (level === null) {
      inside = false;
      return;
    }
    const x = ((model.times[index] - begin) / (end - begin || 1)) * kWidth;
    path += `${inside ? 'L' : 'M'}${x.toFixed(1)},${(kHeight - 2 - (level / most) * (kHeight - 4)).toFixed(1)}`;
    inside = true;
  });
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', `0 0 ${kWidth} ${kHeight}`);
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('class', 'curve');
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', `Live bytes over time, at most ${bytes(most)}`);
  const line = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  line.setAttribute('d', path);
  svg.append(line);
  return svg;
}

export function showDetails(model, index, dialog) {
  const group = model.groups[index];
  const facts = [
    ['Live', `${bytes(group.live_bytes)} in ${count(group.live_blocks)} blocks of ${bytes(group.smallest_block)} to ${bytes(group.largest_block)}`],
    ['Grew by', `${bytes(group.growth_bytes)} after the warm-up${rateOf(group) ? `, ${rateOf(group)}` : ''}`],
    ['Peak', bytes(group.peak_bytes)],
    ['Allocated, freed', `${count(group.allocations)}, ${count(group.frees)}`],
    ['Seen', `from ${seconds(group.first_seen)} to ${seconds(group.last_seen)}`],
    ['Process', group.processNames],
    ['Memory', group.mapping ? `${group.domain} (${group.mapping})` : group.domain],
  ];
  const close = element('button', { type: 'button', class: 'close', onclick: () => dialog.close() }, 'Close');
  const stack = element('ol', { class: 'stack' }, group.frames.map((id, place) => {
    const frame = model.frames[id];
    return element('li', { class: [frame.plumbing ? 'plumbing' : 'own', place === group.blamed_frame ? 'blamed' : ''].join(' ').trim() },
      element('span', { class: 'function' }, frameName(frame), frame.inlined ? ' (inlined)' : ''),
      element('span', { class: 'place' }, framePlace(frame), frame.file ? ` in ${baseName(frame.module)}` : ''));
  }));
  dialog.replaceChildren(
    element('div', { class: 'bar' }, element('h2', { id: 'details-title' },
      element('span', { class: 'badge', 'data-verdict': group.verdict }, group.verdict), ' ', group.blamedName), close),
    group.verdict === 'freed' ? '' : element('p', {}, `Confidence ${(100 * group.confidence).toFixed(0)} %`),
    group.site ? element('p', {}, `This is ${group.site}.`) : '',
    group.advice ? element('p', { class: 'advice' }, group.advice) : '',
    group.evidence.length ? element('ul', { class: 'evidence' }, group.evidence.map((line) => element('li', {}, line))) : '',
    curve(model, group) ?? '',
    element('dl', {}, facts.flatMap(([name, text]) => [element('dt', {}, name), element('dd', {}, text)])),
    element('h3', {}, 'Stack, the innermost frame first'), stack);
  dialog.showModal();
  close.focus();
}
