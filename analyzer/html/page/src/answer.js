// The answer at the top: the stacks that grow, how much per request, and what to do; where none grows, those that keep most.
import { baseName, bytes, framePlace, processName, shortName } from './format.js';
import { element } from './dom.js';
import { rateOf } from './groups.js';
import { countsAsMemory } from './model.js';
import { isBad, kVerdictWords } from './verdicts.js';

const kMost = 3;

// Indices of groups; they are ranked already.
export function answerOf(model) {
  const live = model.groups.map((group, index) => index)
    .filter((index) => countsAsMemory(model.groups[index]) && model.groups[index].live_bytes > 0);
  const bad = live.filter((index) => isBad(model.groups[index].verdict));
  // Stacks that meet in one function are one answer, whatever process they are of.
  const answers = new Map();
  for (const index of bad.length ? bad : live) {
    const { blamedName, verdict } = model.groups[index];
    const key = `${verdict} ${blamedName}`;
    if (answers.has(key)) ++answers.get(key).alike;
    else answers.set(key, { index, alike: 0 });
  }
  return { bad: bad.length > 0, all: answers.size, first: [...answers.values()].slice(0, kMost) };
}

function card(model, { index, alike }, onOpen) {
  const group = model.groups[index];
  const { blamed } = group;
  const rate = rateOf(group);
  const grows = rate && isBad(group.verdict);
  return element('li', {}, element('button', { type: 'button', class: 'answer', 'data-verdict': group.verdict, onclick: () => onOpen(index) },
    element('span', { class: 'much' }, grows ? `+${rate}` : bytes(group.live_bytes)),
    element('span', { class: 'function', title: group.blamedName }, shortName(group.blamedName)),
    element('span', { class: 'where' }, blamed ? baseName(framePlace(blamed)) : '', ' · ', group.processNames, alike ? ` and ${alike.toLocaleString('en-US')} more like it` : ''),
    element('span', { class: 'what' }, element('strong', {}, group.verdict), `: ${kVerdictWords[group.verdict] ?? ''}; `,
      grows ? `${bytes(group.live_bytes)} so far` : `${rate ? `+${rate}, ` : ''}in ${group.live_blocks === 1 ? 'one block' : `${group.live_blocks.toLocaleString('en-US')} blocks`}`),
    group.advice ? element('span', { class: 'what' }, group.advice) : ''));
}

export function showAnswer(model, body, onOpen) {
  const answer = answerOf(model);
  body.replaceChildren(
    element('p', { class: 'note' }, answer.bad
      ? `${answer.all > kMost ? `The first ${kMost} of ${answer.all} functions` : answer.all === 1 ? 'The function' : 'The functions'} to look at; a click shows evidence and calls:`
      : 'Nothing grows without end. What keeps the most:'),
    element('ol', {}, answer.first.map((one) => card(model, one, onOpen))));
  body.hidden = answer.first.length === 0;
}
