// The data that the page carries.

async function unpack(element) {
  const packed = Uint8Array.from(atob(element.textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  return JSON.parse(await new Response(stream).text());
}

export async function readData() {
  const report = document.getElementById('report-data');
  if (!report) throw new Error('the page holds no report');
  const diff = document.getElementById('diff-data');
  const data = { report: await unpack(report), diff: diff ? await unpack(diff) : null };
  report.remove();
  diff?.remove();
  return data;
}
