import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StackTrie } from '../src/trie.js';

const frame = (name, line) => ({ function: name, file: 'a.cc', line, module: '/bin/a', offset: 0 });
const frames = [frame('main', 1), frame('f', 2), frame('f', 3), frame('g', 4), frame('malloc', 5)];
frames[4].plumbing = true;
// Innermost first: malloc < f:2 < main, malloc < f:3 < main, malloc < g < main, and one without a stack.
const stacks = [
  { frames: [4, 1, 0], blamed_frame: 1 }, { frames: [4, 2, 0], blamed_frame: 1 }, { frames: [4, 3, 0], blamed_frame: 1 }, { frames: [], blamed_frame: null },
];

const plain = ({ name, value, children }) => [name, value, children.map(plain)];

test('lines of one function are one node; values add up', () => {
  const trie = new StackTrie(frames, stacks, false);
  const sums = trie.sums([1, 2, 4, 8]);
  assert.deepEqual(plain(trie.tree(sums, 0, 0, 'all')),
    ['all', 15, [['main', 7, [['f', 3, [['malloc', 3, []]]], ['g', 4, [['malloc', 4, []]]]]]]]);
});

test('reversed, it begins at the frame to look at', () => {
  const trie = new StackTrie(frames, stacks, true);
  assert.deepEqual(plain(trie.tree(trie.sums([1, 2, 4, 0]), 0, 0, 'all')),
    ['all', 7, [['f', 3, [['main', 3, []]]], ['g', 4, [['main', 4, []]]]]]);
});

test('zoomed, the way to the top stays and is as wide', () => {
  const trie = new StackTrie(frames, stacks, false);
  const sums = trie.sums([1, 2, 4, 8]);
  const g = trie.nameOf.findIndex((id) => trie.names[id] === 'g');
  assert.deepEqual(plain(trie.tree(sums, g, 0, 'all')), ['all', 4, [['main', 4, [['g', 4, [['malloc', 4, []]]]]]]]);
});

test('what nobody could see is left out', () => {
  const trie = new StackTrie(frames, stacks, false);
  assert.deepEqual(plain(trie.tree(trie.sums([1, 0, 999, 0]), 0, 0.01, 'all')),
    ['all', 1000, [['main', 1000, [['g', 999, [['malloc', 999, []]]]]]]]);
});
