// Bundles the page into one file: node build.mjs NODE_MODULES OUTPUT
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const [modules, output] = process.argv.slice(2).map((path) => resolve(path));
const here = dirname(fileURLToPath(import.meta.url));
const { build } = createRequire(join(modules, 'any.js'))('esbuild');

const { outputFiles, metafile } = await build({
  entryPoints: [join(here, 'src', 'main.js')],
  nodePaths: [modules],
  outdir: 'unused',  // nothing is written
  bundle: true,
  minify: true,
  write: false,
  metafile: true,
  charset: 'utf8',
  format: 'iife',
  // DecompressionStream, which the page cannot do without, is of these.
  target: ['chrome111', 'firefox113', 'safari16.4'],
  legalComments: 'none',  // the licences are added below, once a package
  logLevel: 'warning',
});
const bundle = (end) => outputFiles.find(({ path }) => path.endsWith(end)).text;

// The licences ask that their text goes with every copy.
const packages = [...new Set(Object.keys(metafile.inputs)
  .map((path) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]).filter(Boolean))].sort();
const licences = packages.map((name) => {
  const folder = join(modules, name);
  const { version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const file = ['LICENSE', 'LICENSE.md', 'LICENCE'].map((one) => join(folder, one)).find(existsSync);
  return `${name} ${version} (${license})\n${file ? readFileSync(file, 'utf8').trim() : ''}`;
}).join('\n\n');

// Functions as replacements: in a string, "$&" of the scripts would mean something.
const page = readFileSync(join(here, 'src', 'page.html'), 'utf8')
  .replace('/*style*/', () => bundle('.css').replaceAll('</style', '<\\/style'))
  .replace('/*script*/', () => bundle('.js').replaceAll('</script', '<\\/script'))
  .replace('<!--licences-->', () => `<!--\nThis page holds:\n\n${licences.replaceAll('--', '- -')}\n-->`);
writeFileSync(output, page);
