// The flame graph (an icicle: the outermost frame on top), with its controls.
import { select } from 'd3-selection';
import flamegraph from 'd3-flame-graph';
import { bytes, count, percent } from './format.js';
import { element } from './dom.js';
import { countsAsMemory, kMetrics } from './model.js';
import { StackTrie } from './trie.js';

const kLeast = 1 / 1500;  // of the width: about a pixel
const kCell = 20;

// One hue a module, so that the libraries stand apart; frames of allocators and runtimes are grey.
function colour({ data }) {
  if (data.node === 0 || data.around) return 'var(--flame-around)';
  if (data.plumbing) return 'var(--flame-plumbing)';
  let hash = 0;
  for (const letter of data.module) hash = (hash * 31 + letter.charCodeAt(0)) | 0;
  return `hsl(${Math.abs(hash * 47) % 360} var(--flame-saturation) var(--flame-lightness))`;
}

export class FlameView {
  constructor(model, body, onPick) {
    this.model = model;
    this.onPick = onPick;
    this.metric = 'live';
    this.reverse = false;
    this.top = 0;
    this.tries = new Map();
    this.metrics = element('select', { id: 'metric', onchange: (event) => this.#set({ metric: event.target.value }) },
      Object.entries(kMetrics).map(([id, { name }]) => element('option', { value: id }, name)));
    this.turn = element('input', { type: 'checkbox', id: 'reverse', onchange: (event) => this.#set({ reverse: event.target.checked }) });
    this.back = element('button', { type: 'button', id: 'unzoom', hidden: true, onclick: () => this.#zoom(0) }, 'Show all');
    this.details = element('output', { class: 'flame-details', 'aria-live': 'polite' });
    this.chart = element('div', { class: 'flame', role: 'tree', tabindex: 0,
      'aria-label': 'Flame graph of stacks. Arrow keys walk, Enter zooms in, Escape shows all. The table of groups tells the same.',
      onkeydown: (event) => this.#key(event) });
    this.help = element('p', { class: 'note' });
    body.append(
      element('div', { class: 'controls' },
        element('label', {}, 'Show ', this.metrics),
        element('label', {}, this.turn, ' Reverse: the allocating function on top'),
        this.back),
      this.help, this.chart, this.details);
    new ResizeObserver(() => {
      if (this.width !== this.chart.clientWidth && this.state) this.#draw();
    }).observe(this.chart);
  }

  #set(change) {
    Object.assign(this, change);
    this.top = 0;
    this.#compute();
  }

  // `indices`: the groups that pass `state`.
  show(indices, state) {
    this.indices = indices;
    this.state = state;
    this.#compute();
  }

  #trie(pinned) {
    const key = `${pinned} ${this.reverse}`;
    if (!this.tries.has(key)) {
      this.tries.set(key, new StackTrie(this.model.frames, pinned ? this.model.pins : this.model.groups, this.reverse));
    }
    return this.tries.get(key);
  }

  #compute() {
    const { model, metric, state } = this;
    const pinned = metric === 'pinned';
    this.trie = this.#trie(pinned);
    const values = new Float64Array(pinned ? model.pins.length : model.groups.length);
    if (pinned) {
      const pass = new Set(model.filterPins(state));
      model.pins.forEach((pin, index) => {
        if (pass.has(pin)) values[index] = pin.pinned;
      });
    } else {
      for (const index of this.indices) {
        // Blocks of file mappings and reservations are no memory.
        const group = model.groups[index];
        if (countsAsMemory(group)) {
          values[index] = Math.max(0, model.value(group, metric, state.window));
        }
      }
    }
    this.sums = this.trie.sums(values);
    if (this.top >= this.sums.length || this.sums[this.top] === 0) this.top = 0;
    this.#draw();
  }

  text(value) {
    return kMetrics[this.metric].unit === 'bytes' ? bytes(value) : `${count(value)} blocks`;
  }

  #describe(data) {
    return `${data.name}${data.module ? ` (${data.module})` : ''}: ${this.text(this.sums[data.node])}, ${percent(this.sums[data.node], this.sums[0])} of ${this.text(this.sums[0])}`;
  }

  #draw() {
    this.width = this.chart.clientWidth;
    const metric = kMetrics[this.metric];
    this.help.textContent = metric.help + (this.state.window && !metric.windowed ? ' (the selected time does not change it)' : '') + '.';
    this.back.hidden = this.top === 0;
    this.chart.replaceChildren();
    this.selected = null;
    if (this.width === 0) return;
    if (this.sums[0] === 0) {
      this.chart.append(element('p', { class: 'note' }, 'Nothing to show: no group that passes the filters has any.'));
      this.details.textContent = '';
      return;
    }
    const tree = this.trie.tree(this.sums, this.top, kLeast, 'all');
    const graph = flamegraph().width(this.width).cellHeight(kCell).inverted(true).transitionDuration(0)
      .minFrameSize(1).sort((a, b) => b.value - a.value).tooltip(false)
      .setColorMapper(colour)
      .setLabelHandler(({ data }) => this.#describe(data))
      .getName(({ data }) => data.name)
      .onClick(({ data }) => this.#zoom(data.node))
      .onHover(({ data }) => {
        this.details.textContent = this.#describe(data);
      });
    select(this.chart).datum(tree).call(graph);
    for (const frame of this.chart.querySelectorAll('g.frame')) {
      frame.setAttribute('role', 'treeitem');
      frame.setAttribute('aria-label', this.#describe(frame.__data__.data));
      frame.dataset.node = frame.__data__.data.node;
    }
    this.details.textContent = this.#describe({ ...tree, node: 0 });
  }

  #zoom(node) {
    this.top = node === this.top ? Math.max(0, this.trie.parent[node]) : node;
    this.#draw();
    this.#select(this.top);
    // A leaf is a group's: tell which.
    this.onPick?.(this.groupsAt(node));
  }

  // Groups whose stack passes through the node.
  groupsAt(node) {
    if (node === 0 || this.metric === 'pinned') return null;
    const { parent, leafOf } = this.trie;
    const below = new Uint8Array(parent.length);
    below[node] = 1;
    for (let i = node + 1; i < parent.length; ++i) below[i] = below[parent[i]];
    return new Set(this.indices.filter((index) => below[leafOf[index]]));
  }

  #select(node) {
    const frame = this.chart.querySelector(`g.frame[data-node="${node}"]`);
    if (!frame) return;
    this.chart.querySelector('g.frame.selected')?.classList.remove('selected');
    frame.classList.add('selected');
    frame.id = 'flame-selected';
    this.chart.querySelectorAll('#flame-selected').forEach((other) => {
      if (other !== frame) other.removeAttribute('id');
    });
    this.chart.setAttribute('aria-activedescendant', 'flame-selected');
    this.selected = node;
    this.details.textContent = this.#describe(frame.__data__.data);
  }

  #key(event) {
    const here = this.selected ?? 0;
    const drawn = (nodes) => nodes.filter((node) => this.chart.querySelector(`g.frame[data-node="${node}"]`))
      .sort((a, b) => this.sums[b] - this.sums[a]);
    const parent = this.trie.parent[here];
    const beside = parent < 0 ? [here] : drawn(this.trie.children[parent]);
    const place = beside.indexOf(here);
    const to = {
      ArrowDown: () => drawn(this.trie.children[here])[0],
      ArrowUp: () => (parent < 0 ? undefined : parent),
      ArrowRight: () => beside[place + 1],
      ArrowLeft: () => beside[place - 1],
      Home: () => 0,
    }[event.key];
    if (to) {
      event.preventDefault();
      const node = to();
      if (node !== undefined) this.#select(node);
    } else if (event.key === 'Enter') {
      event.preventDefault();
      this.#zoom(here);
    } else if (event.key === 'Escape' && this.top !== 0) {
      event.preventDefault();
      this.#zoom(0);
    }
  }
}
