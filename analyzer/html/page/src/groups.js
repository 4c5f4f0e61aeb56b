// The table of groups. Only the rows in sight are in the document: 50 000 stay smooth.
import { baseName, bytes, count, framePlace, shortName } from './format.js';
import { element } from './dom.js';

// The height of a row, as the style sheet has it.
const kNarrow = matchMedia('(max-width: 40rem)');
const rowHeight = () => (kNarrow.matches ? 58 : 34);
const kAhead = 8;

const rate = (value, unit) => (value ? `${bytes(value)} per ${unit}` : null);

// Whichever rate is known.
export function rateOf(group) {
  return rate(group.bytes_per_request, 'request') ?? rate(group.bytes_per_hour, 'hour') ?? '';
}

export class GroupsView {
  constructor(model, body, onOpen) {
    this.model = model;
    this.onOpen = onOpen;
    this.columns = [
      { id: 'rank', name: 'Rank', number: true, value: (group) => group.rank, text: (group) => `${group.rank}` },
      { id: 'verdict', name: 'Verdict', value: (group) => group.verdict, text: (group) => group.verdict },
      { id: 'function', name: 'Function', value: (group) => group.blamedName, text: (group) => group.blamedName },
      { id: 'live', name: 'Live', number: true, value: (group) => this.#of(group, 'live'), text: (group) => bytes(this.#of(group, 'live')) },
      { id: 'growth', name: 'Growth', number: true, value: (group) => this.#of(group, 'growth'), text: (group) => bytes(this.#of(group, 'growth')) },
      { id: 'rate', name: 'Rate', number: true, value: (group) => group.bytes_per_request ?? group.bytes_per_hour ?? -Infinity, text: rateOf },
      { id: 'peak', name: 'Peak', number: true, value: (group) => this.#of(group, 'peak'), text: (group) => bytes(this.#of(group, 'peak')) },
      { id: 'blocks', name: 'Blocks', number: true, value: (group) => group.live_blocks, text: (group) => count(group.live_blocks) },
      { id: 'domain', name: 'Memory', value: (group) => group.domain, text: (group) => group.mapping ? `${group.domain} (${group.mapping})` : group.domain },
      { id: 'process', name: 'Process', value: (group) => group.processNames, text: (group) => group.processNames },
    ];
    this.order = { column: 'rank', down: false };
    this.heads = this.columns.map((column) => element('th', { scope: 'col', 'data-column': column.id, class: column.number ? 'number' : undefined },
      element('button', { type: 'button', onclick: () => this.#sortBy(column) }, column.name)));
    this.rows = element('tbody');
    this.table = element('table', { class: 'groups' }, element('caption', { class: 'quiet' }, 'Groups of blocks with one stack; a row opens with Enter'),
      element('thead', {}, element('tr', {}, this.heads)), this.rows);
    this.scroll = element('div', { class: 'scroll tall', tabindex: 0, role: 'region', 'aria-label': 'Groups, scrolls', onscroll: () => this.#paint() }, this.table);
    this.only = element('button', { type: 'button', id: 'all-stacks', hidden: true, onclick: () => this.choose(null) });
    body.append(this.only, this.scroll);
    this.rows.addEventListener('click', (event) => this.#open(event));
    this.rows.addEventListener('keydown', (event) => this.#key(event));
    new ResizeObserver(() => this.#paint()).observe(this.scroll);
    kNarrow.addEventListener('change', () => this.#paint(true));
    this.table.dataset.processes = model.processes.length;
    this.chosen = null;
  }

  #of(group, metric) {
    return this.model.value(group, metric, this.state.window);
  }

  show(indices, state) {
    this.indices = indices;
    this.state = state;
    this.#sort();
  }

  // Only these groups (of the flame graph's node), or all.
  choose(groups) {
    this.chosen = groups;
    this.only.hidden = groups === null;
    if (groups) this.only.textContent = `${this.model.many(groups.size)} below the chosen frame; show all`;
    this.#sort();
  }

  #sortBy(column) {
    this.order = { column: column.id, down: this.order.column === column.id ? !this.order.down : column.number && column.id !== 'rank' };
    this.#sort();
  }

  #sort() {
    const column = this.columns.find(({ id }) => id === this.order.column);
    const sign = this.order.down ? -1 : 1;
    const keyed = (this.chosen ? this.indices.filter((index) => this.chosen.has(index)) : this.indices)
      .map((index) => [column.value(this.model.groups[index]), index]);
    keyed.sort(([a, x], [b, y]) => (a < b ? -sign : a > b ? sign : x - y));
    this.sorted = keyed.map(([, index]) => index);
    this.heads.forEach((head) => {
      if (head.dataset.column === column.id) head.setAttribute('aria-sort', this.order.down ? 'descending' : 'ascending');
      else head.removeAttribute('aria-sort');
    });
    this.table.setAttribute('aria-rowcount', this.sorted.length + 1);
    this.scroll.scrollTop = 0;
    this.#paint(true);
  }

  #paint(always = false) {
    if (!this.sorted) return;
    const row = rowHeight();
    const first = Math.max(0, Math.floor(this.scroll.scrollTop / row) - kAhead);
    const last = Math.min(this.sorted.length, Math.ceil((this.scroll.scrollTop + this.scroll.clientHeight) / row) + kAhead);
    if (!always && first === this.first && last === this.last) return;
    this.first = first;
    this.last = last;
    const focused = document.activeElement?.closest?.('tr[data-place]')?.dataset.place;
    const gap = (rows) => element('tr', { 'aria-hidden': 'true', style: { height: `${rows * row}px` } });
    const shown = [];
    for (let place = first; place < last; ++place) shown.push(this.#row(place));
    this.rows.replaceChildren(gap(first), ...shown, gap(this.sorted.length - last));
    if (this.sorted.length === 0) {
      this.rows.replaceChildren(element('tr', {}, element('td', { colspan: this.columns.length }, 'None passes the filters.')));
    }
    if (focused !== undefined) this.#focus(Number(focused));
  }

  #row(place) {
    const group = this.model.groups[this.sorted[place]];
    return element('tr', { tabindex: 0, 'data-place': place, 'aria-rowindex': place + 2 },
      this.columns.map((column) => element('td', { 'data-column': column.id, class: column.number ? 'number' : undefined },
        column.id === 'verdict' ? element('span', { class: 'badge', 'data-verdict': group.verdict }, group.verdict)
          : column.id === 'function' ? [element('span', { class: 'function', title: group.blamedName }, shortName(group.blamedName)),
            element('span', { class: 'place' }, group.blamed ? baseName(framePlace(group.blamed)) : '')]
            : column.text(group))));
  }

  #place(event) {
    const row = event.target.closest('tr[data-place]');
    return row ? Number(row.dataset.place) : null;
  }

  #open(event) {
    const place = this.#place(event);
    if (place !== null) this.onOpen(this.sorted[place]);
  }

  #focus(place) {
    this.rows.querySelector(`tr[data-place="${place}"]`)?.focus({ preventScroll: true });
  }

  #key(event) {
    const place = this.#place(event);
    if (place === null) return;
    const to = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: this.sorted.length - 1, PageDown: place + 10, PageUp: place - 10 }[event.key];
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      this.onOpen(this.sorted[place]);
    } else if (to !== undefined) {
      event.preventDefault();
      const target = Math.min(this.sorted.length - 1, Math.max(0, to));
      const { scrollTop, clientHeight } = this.scroll;
      const row = rowHeight();
      const top = target * row;
      if (top < scrollTop) this.scroll.scrollTop = top;
      else if (top + 2 * row > scrollTop + clientHeight) this.scroll.scrollTop = top + 2 * row - clientHeight;
      this.#paint(true);
      this.#focus(target);
    }
  }
}
