// Numbers as people read them.

const kUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

export function bytes(value) {
  if (value === null || value === undefined) return '–';
  const sign = value < 0 ? '−' : '';
  let size = Math.abs(value);
  let unit = 0;
  while (size >= 1024 && unit + 1 < kUnits.length) {
    size /= 1024;
    ++unit;
  }
  const digits = unit === 0 || size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return `${sign}${size.toFixed(unit === 0 ? (size % 1 ? 1 : 0) : digits)} ${kUnits[unit]}`;
}

export function count(value) {
  if (value === null || value === undefined) return '–';
  return Math.round(value).toLocaleString('en-US');
}

export function seconds(value) {
  if (value === null || value === undefined) return '–';
  const total = Math.abs(value);
  if (total < 10) return `${value.toFixed(total < 1 ? 2 : 1)} s`;
  if (total < 120) return `${Math.round(value)} s`;
  const minutes = Math.floor(total / 60);
  if (minutes < 120) return `${minutes} min ${Math.round(total % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// Moments of a time axis whose marks are `step` seconds apart: "20 s", "2:30", "1:05:00".
export function clock(value, step, longest) {
  if (longest < 120) return `${value.toFixed(step >= 1 ? 0 : Math.min(6, Math.ceil(-Math.log10(step))))} s`;
  const two = (number) => String(Math.floor(number)).padStart(2, '0');
  if (longest < 7200) return `${Math.floor(value / 60)}:${two(value % 60)}`;
  if (longest < 172800) return `${Math.floor(value / 3600)}:${two((value % 3600) / 60)}:${two(value % 60)}`;
  return `${Math.floor(value / 86400)} d ${Math.floor((value % 86400) / 3600)} h`;
}

export function percent(part, whole) {
  if (!whole) return '0 %';
  const share = (100 * part) / whole;
  return `${share >= 10 || share === 0 ? share.toFixed(0) : share.toPrecision(2)} %`;
}

export const baseName = (path) => (path ? path.slice(path.lastIndexOf('/') + 1) : '');

// "function", or what is known instead of one.
export function frameName(frame) {
  if (frame.function) return frame.function;
  const module = baseName(frame.module);
  return module ? `${module}+0x${frame.offset.toString(16)}` : `0x${frame.offset.toString(16)}`;
}

// A function without its arguments, templates' arguments and anonymous namespaces: what fits in a row.
export function shortName(name) {
  let text = name.replaceAll('(anonymous namespace)::', '').replaceAll('{anonymous}::', '');
  const operator = text.indexOf('operator');
  if (operator >= 0) return text;
  let short = '';
  let depth = 0;
  for (const letter of text) {
    if (letter === '<') ++depth;
    else if (letter === '>') depth = Math.max(0, depth - 1);
    else if (letter === '(' && depth === 0 && short !== '') {
      // Go's methods: runtime.(*mheap).grow
      if (!short.endsWith('.')) break;
      short += letter;
    } else if (depth === 0) short += letter;
  }
  return short || text;
}

export function framePlace(frame) {
  if (frame.file) return frame.line ? `${frame.file}:${frame.line}` : frame.file;
  return frame.module ?? '';
}

// "server [100]".
export function processName(process) {
  return `${baseName(process.exe) || '?'} [${process.pid}]`;
}
