import assert from 'node:assert/strict';
import { test } from 'node:test';
import { expandCurve, isFiltered, kNoFilter, levelAt, Model } from '../src/model.js';

const frame = (name, module = '/lib/a.so') => ({ function: name, file: `${name}.cc`, line: 1, module, offset: 1, inlined: false });

const group = (properties) => ({
  rank: 1, process: 0, pids: [10], domain: 'heap', mapping: null, verdict: 'leak', live_bytes: 100, live_blocks: 2, frees: 3,
  growth_bytes: 50, peak_bytes: 120, curve: [1, 10, 3, 40, 4, 30], blamed_frame: 0, frames: [0, 2], site: null, evidence: [], ...properties,
});

const make = (groups) => new Model({
  timeline: { times: [1, 2, 3, 4, 5, 6], processes: [] }, frames: [frame('Leak'), frame('Cache', '/lib/b.so'), frame('main', '/bin/server')],
  groups, processes: [{ pid: 10, exe: '/bin/server' }, { pid: 11, exe: '/bin/runner' }], fragmentation: null,
});

test('a curve of changes holds its level until the next one, and knows when the process did not live', () => {
  assert.deepEqual(expandCurve([1, 10, 3, 40, 5, null], 7), [null, 10, 10, 40, 40, null, null]);
  assert.deepEqual([0, 1, 2, 3, 4, 6].map((index) => levelAt([1, 10, 3, 40, 5, null], index)), [0, 10, 10, 40, 40, 0]);
  assert.deepEqual(expandCurve([], 2), [null, null]);
});

test('without a window the report speaks, with one the curve does', () => {
  const model = make([group()]);
  const [one] = model.groups;
  assert.equal(model.value(one, 'live', null), 100);
  assert.equal(model.value(one, 'live', [0, 3]), 40);
  assert.equal(model.value(one, 'growth', [1, 4]), 20);
  assert.equal(model.value(one, 'growth', [3, 4]), -10);
  assert.equal(model.value(one, 'peak', [0, 5]), 40);
  assert.equal(model.value(one, 'peak', [4, 5]), 30);
  assert.equal(model.value(one, 'freed', [0, 1]), 3);
});

test('filters add to each other', () => {
  const model = make([group(), group({ frames: [1, 2], verdict: 'cache' }), group({ domain: 'device', process: 1, pids: [11] }),
    group({ process: null, pids: [10, 11], verdict: 'one-time' })]);
  const pass = (change) => model.filter({ ...kNoFilter, ...change });
  assert.deepEqual(pass({}), [0, 1, 2, 3]);
  assert.deepEqual(pass({ search: 'LEAK' }), [0, 2, 3]);
  assert.deepEqual(pass({ search: 'b.so' }), [1]);
  assert.deepEqual(pass({ search: 'nothing like it' }), []);
  assert.deepEqual(pass({ kind: 'gpu' }), [2]);
  assert.deepEqual(pass({ kind: 'host', verdict: 'cache' }), [1]);
  assert.deepEqual(pass({ process: 1 }), [2, 3]);
  assert.equal(isFiltered(kNoFilter), false);
  assert.equal(isFiltered({ ...kNoFilter, window: [0, 1] }), true);
});

test('pins find their frames in the table', () => {
  const model = new Model({ ...make([]).report, fragmentation: { host: [{ process: 0, pins: [{ frames: [frame('Cache', '/lib/b.so')], blamed_frame: 0, pinned: 7 }] }] } });
  assert.deepEqual(model.pins.map(({ frames, pinned }) => [frames, pinned]), [[[1], 7]]);
  assert.equal(model.filterPins({ ...kNoFilter, search: 'cache' }).length, 1);
  assert.equal(model.filterPins({ ...kNoFilter, search: 'leak' }).length, 0);
});
