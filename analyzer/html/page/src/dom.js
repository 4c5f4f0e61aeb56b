// Making elements. Text is always text: names from traces are never HTML.

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (name === 'style') for (const [key, one] of Object.entries(value)) made.style.setProperty(key, one);
    else made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

// `rows` of cells; a cell is text, a node, or {value, number: true}.
export function table(caption, heads, rows) {
  const cell = (tag, one, attributes = {}) => {
    const number = typeof one === 'object' && one !== null && !(one instanceof Node) && one.number;
    const content = number ? one.value : one;
    return element(tag, { ...attributes, class: number ? 'number' : undefined }, content ?? '–');
  };
  return element('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
    element('table', {},
      element('caption', {}, caption),
      element('thead', {}, element('tr', {}, heads.map((head) => cell('th', head, { scope: 'col' })))),
      element('tbody', {}, rows.map((row) => element('tr', {}, row.map((one) => cell('td', one)))))));
}

export const number = (value) => ({ value, number: true });
