// GPU memory: what each process's ledgers say, device by device, beside what NVML has seen.
import { bytes, count, percent, processName, seconds } from './format.js';
import { element, number, table } from './dom.js';

const size = (value) => number(bytes(value));

const kDomains = {
  device: 'device memory (cudaMalloc)',
  managed: 'managed (host or device)',
  pinned: 'page-locked, on the host',
  pool: 'stream-ordered pools',
  virtual: 'physical, by cuMemCreate',
  array: 'arrays',
  graph: 'nodes of graphs',
  'graph-exec': 'executable graphs',
  'address-space': 'addresses reserved',
  mapped: 'physical memory mapped',
  registered: 'host memory registered',
  imported: 'imported from others',
};

const kStages = {
  context: 'contexts', library: 'first use of libraries (cuBLAS, ...)', modules: 'modules of device code',
  graphs: 'executable graphs', other: 'nothing that was seen',
};

// The last part is what nobody uses.
function bar(parts, whole) {
  const colour = (index) => (index + 1 === parts.length ? 'unused' : `part-${index}`);
  return element('div', {},
    element('div', { class: 'stacked', role: 'img', 'aria-label': parts.map(({ name, value }) => `${name} ${bytes(value)}`).join(', ') },
      parts.map(({ name, value }, index) => value > 0 && element('span', { class: `part ${colour(index)}`, title: `${name}: ${bytes(value)}`,
        style: { 'flex-grow': value / whole } }))),
    element('p', { class: 'note legend' }, parts.map(({ name, value }, index) =>
      element('span', {}, element('i', { class: `swatch ${colour(index)}` }), `${name} ${bytes(value)}`))));
}

function ledgers(rows, caption) {
  return table(caption, ['Memory', number('Live'), number('Blocks'), number('Peak'), number('Allocated'), number('Freed'), number('Ended with its context')],
    rows.map((one) => [kDomains[one.domain] ?? one.domain, size(one.live_bytes), number(count(one.live_blocks)), size(one.peak_bytes),
      number(count(one.allocations)), number(count(one.frees)),
      number(one.implicitly_freed.blocks ? `${bytes(one.implicitly_freed.bytes)} in ${count(one.implicitly_freed.blocks)}` : '–')]));
}

// Virtual memory management: what is reserved, what of it has memory behind it, what is mapped.
function virtualMemory(rows) {
  const live = (domain) => rows.find((one) => one.domain === domain)?.live_bytes ?? 0;
  const [reserved, mapped, physical] = [live('address-space'), live('mapped'), live('virtual')];
  if (reserved + mapped + physical === 0) return null;
  const unmapped = physical - Math.min(physical, mapped);
  return element('div', {},
    element('p', {}, `Of ${bytes(reserved)} of addresses reserved, ${bytes(mapped)} are mapped (${percent(mapped, reserved)}). `,
      `Physical memory: ${bytes(physical)}${unmapped ? `, ${bytes(unmapped)} of it not mapped` : ', all of it mapped'}.`),
    reserved > 0 && bar([{ name: 'mapped', value: mapped }, { name: 'only reserved', value: Math.max(0, reserved - mapped) }], Math.max(reserved, mapped)));
}

function residual(one) {
  const { residual: rest } = one;
  const stages = rest.stages.filter((stage) => stage.bytes !== 0);
  return element('div', {},
    element('p', {}, element('strong', {}, `Not traced: ${bytes(rest.last)}`), `, ${bytes(rest.first)} at first`,
      rest.bytes_per_hour === null ? '' : `, ${rest.bytes_per_hour > 0 ? '+' : ''}${bytes(rest.bytes_per_hour)} per hour (95 %: ${bytes(rest.bytes_per_hour_low)} to ${bytes(rest.bytes_per_hour_high)})`,
      '. The driver keeps it for contexts, code and libraries: no leak by itself.'),
    stages.length > 0 && table('What came when it changed', ['With', number('How many'), number('Bytes')],
      stages.map((stage) => [kStages[stage.stage] ?? stage.stage, number(stage.count ? count(stage.count) : '–'), size(stage.bytes)])));
}

function byNvml(one) {
  const known = one.process_bytes !== null;
  const traced = Math.min(one.traced_bytes, one.process_bytes ?? 0);
  return element('div', {},
    one.total_bytes !== null && one.used_bytes !== null && element('p', {},
      `NVML: ${bytes(one.used_bytes)} of ${bytes(one.total_bytes)} in use, `,
      known ? `${bytes(one.process_bytes)} by this process, ${bytes(one.traced_bytes)} of it traced.` : 'how much of it by this process is not known.'),
    known && one.total_bytes > 0 && bar([{ name: 'traced', value: traced }, { name: 'not traced', value: one.process_bytes - traced },
      { name: 'others', value: Math.max(0, one.used_bytes - one.process_bytes) }, { name: 'free', value: Math.max(0, one.total_bytes - one.used_bytes) }], one.total_bytes),
    one.residual ? residual(one) : null);
}

function failures(capture) {
  const { failed_allocations: allocations, failed_frees: frees } = capture;
  if (allocations + frees === 0) return null;
  return element('div', {},
    element('p', { class: 'warn' }, `Failed: ${count(allocations)} ${allocations === 1 ? 'allocation' : 'allocations'}, ${count(frees)} ${frees === 1 ? 'free' : 'frees'}.`),
    table('Calls that failed, the first ones', [number('At'), 'Call', number('Size'), 'Device', 'CUDA error', 'Free then'],
      capture.failures.map((one) => [number(seconds(one.at)), `${one.kind === 'free' ? 'free of what came from ' : ''}${one.function ?? 'an unknown call'}`, size(one.size), one.device ?? '–', one.status,
        one.free_bytes === null ? '–' : `${bytes(one.free_bytes)}${one.free_bytes >= one.size ? ': enough, so fragmented or another limit' : ''}`])));
}

export function showGpu(report, body) {
  const told = (process) => process.gpu.length || process.gpu_devices?.length ||
    process.gpu_capture.failed_allocations + process.gpu_capture.failed_frees > 0;
  for (const process of report.processes.filter(told)) {
    const capture = process.gpu_capture;
    body.append(element('h3', {}, processName(process)));
    if (capture.state !== 'active') {
      body.append(element('p', { class: 'warn' }, `Capture was ${capture.state ?? 'not told'}${capture.reason ? `: ${capture.reason}` : ''}.`));
    }
    const devices = [...new Set([...process.gpu.map((one) => one.device), ...(process.gpu_devices ?? []).map((one) => one.device)])];
    for (const device of devices.sort((a, b) => (a ?? Infinity) - (b ?? Infinity))) {
      const rows = process.gpu.filter((one) => one.device === device);
      const memory = rows.filter((one) => one.memory);
      const live = memory.reduce((total, one) => total + one.live_bytes, 0);
      const name = device === null ? 'Device not known' : `GPU ${device}`;
      body.append(element('h4', {}, `${name}: ${bytes(live)} live`));
      const nvml = (process.gpu_devices ?? []).find((one) => one.device === device);
      if (nvml) body.append(byNvml(nvml));
      if (memory.length) body.append(ledgers(memory, `Memory on ${name}`));
      const rounding = memory.reduce((total, one) => total + (one.rounding_bytes ?? 0), 0);
      if (rounding) body.append(element('p', { class: 'note' }, `Estimate: ${bytes(rounding)} more where cudaMalloc rounds to pages of 2 MiB.`));
      const vmm = virtualMemory(rows);
      if (vmm) body.append(vmm);
      const other = rows.filter((one) => !one.memory);
      if (other.length) body.append(ledgers(other, `On ${name}, with no memory of their own`));
    }
    const failed = failures(capture);
    if (failed) body.append(failed);
  }
  return body.childElementCount > 0;
}
