import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytes, percent, seconds, shortName } from '../src/format.js';

test('bytes', () => {
  assert.deepEqual([0, 17, 1023, 1024, 1536, 102400, 5 * 2 ** 30, -2048, null].map(bytes),
    ['0 B', '17 B', '1023 B', '1.00 KiB', '1.50 KiB', '100 KiB', '5.00 GiB', '−2.00 KiB', '–']);
});

test('seconds', () => {
  assert.deepEqual([0.25, 3.14, 60, 3599, 7200 + 120, 86400 * 3].map(seconds),
    ['0.25 s', '3.1 s', '60 s', '59 min 59 s', '2 h 2 min', '3 d 0 h']);
});

test('percent', () => {
  assert.deepEqual([percent(1, 2), percent(1, 300), percent(0, 5), percent(1, 0)], ['50 %', '0.33 %', '0 %', '0 %']);
});

test('a name without what does not fit in a row', () => {
  assert.equal(shortName('leaky::(anonymous namespace)::Server::Leak(char const*)'), 'leaky::Server::Leak');
  assert.equal(shortName('std::vector<std::pair<int, int> >::push_back(int&&)'), 'std::vector::push_back');
  assert.equal(shortName('runtime.(*mheap).grow'), 'runtime.(*mheap).grow');
  assert.equal(shortName('operator new(unsigned long)'), 'operator new(unsigned long)');
  assert.equal(shortName('(anonymous namespace)::operator()'), 'operator()');
  assert.equal(shortName('main'), 'main');
});
