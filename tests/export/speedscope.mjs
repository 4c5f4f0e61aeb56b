// Opens files in speedscope, in Chromium. From export_test.py: SPEEDSCOPE is its page, PAGE a folder with node_modules, the arguments are
// files. Tells of each, as a line of JSON, what speedscope took it for, its title and what went wrong.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const { PAGE, CHROMIUM, SPEEDSCOPE } = process.env;
const { chromium } = createRequire(join(PAGE, 'any.js'))('playwright-core');
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  // Run by root in CI, where Chromium's sandbox refuses.
  args: ['--allow-file-access-from-files', ...(process.getuid() === 0 ? ['--no-sandbox'] : [])],
});
for (const file of process.argv.slice(2)) {
  const page = await browser.newPage();
  const told = { file, as: null, title: null, troubles: [] };
  page.on('console', (message) => {
    told.as = /^Importing as (.*)/.exec(message.text())?.[1] ?? told.as;
    if (message.type() === 'error') told.troubles.push(message.text());
  });
  page.on('pageerror', (error) => told.troubles.push(error.message));
  page.on('dialog', (dialog) => {
    told.troubles.push(dialog.message());
    dialog.dismiss();
  });
  await page.goto(pathToFileURL(SPEEDSCOPE).href);
  await page.locator('input[type=file]').setInputFiles(file);
  // It has read the file when its views can be chosen.
  await page.getByText('Left Heavy').waitFor({ timeout: 60000 }).catch((error) => told.troubles.push(error.message));
  told.title = await page.title();
  console.log(JSON.stringify({ ...told, shown: await page.evaluate(() => document.body.innerText) }));
  await page.close();
}
await browser.close();
