// Looks at pages in Chromium at three widths in both themes: pictures of them, and what is wrong with them.
//
//   npm install --no-save axe-core@4.14.1 playwright-core@1.65.1
//   node docs/gallery/check.mjs FOLDER PAGE.html...
//
// Wrong is what axe finds serious, a letter with less contrast than WCAG AA wants (in pictures too), what the console
// says, whatever a page asks of the network, a page that is wider than the window, a table that keys do not sort.
// Chromium has to be on PATH. The exit code is 1 where anything is wrong.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";

const WIDTHS = [1280, 768, 390];
const THEMES = ["light", "dark"];
const LEAST = 4.5; // contrast of a letter
const GRAVE = ["serious", "critical"];

const require = createRequire(path.join(process.cwd(), "x.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [folder, ...pages] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const executablePath = execFileSync("which", ["chromium"], { encoding: "utf8" }).trim();
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
let wrong = 0;
for (const page of pages) {
  const name = path.basename(page, ".html");
  for (const theme of THEMES) {
    for (const width of WIDTHS) {
      const faults = await look(page, theme, width, `${name}-${theme}-${width}`);
      wrong += faults.length;
      faults.forEach((fault) => console.log(`${name} ${theme} ${width}: ${fault}`));
    }
  }
}
await browser.close();
console.log(`${pages.length} pages, ${WIDTHS.length} widths, ${THEMES.length} themes: ${wrong} faults`);
process.exitCode = wrong ? 1 : 0;

async function look(file, theme, width, picture) {
  const faults = [];
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: theme });
  const page = await context.newPage();
  const address = pathToFileURL(path.resolve(file)).href;
  page.on("console", (said) => faults.push(`console: ${said.text()}`));
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("request", (asked) => {
    if (asked.url() !== address && !asked.url().startsWith("data:")) faults.push(`asks for ${asked.url()}`);
  });
  await page.goto(address);
  await page.screenshot({ path: path.join(folder, `${picture}.png`), fullPage: true });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (wide > 0) faults.push(`it is ${wide} pixels wider than the window`);
  faults.push(...(await page.evaluate(dim, LEAST)));
  faults.push(...(await sorted(page)));
  await page.evaluate(() => document.querySelectorAll("details").forEach((each) => (each.open = true)));
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run());
  for (const fault of found.violations.filter((each) => GRAVE.includes(each.impact))) {
    faults.push(`axe: ${fault.id}: ${fault.help} (${fault.nodes.length}, as ${fault.nodes[0].html.slice(0, 100)})`);
  }
  await context.close();
  return faults;
}

// What keys do to a table: they reach its heads, and sort by them.
async function sorted(page) {
  const button = page.locator("table.sorts thead button").first();
  if (!(await button.count())) return [];
  await button.focus();
  const orders = [];
  for (const way of ["ascending", "descending"]) {
    await page.keyboard.press("Enter");
    const [head, order] = await button.evaluate((each) => {
      const rows = [...each.closest("table").tBodies[0].rows];
      return [each.closest("th").getAttribute("aria-sort"), rows.map((row) => row.cells[0].textContent).join()];
    });
    if (head !== way) return [`a table is said to be sorted ${head}, not ${way}`];
    orders.push(order);
  }
  return orders[0] === orders[1] && orders[0].includes(",") ? ["a table is not sorted"] : [];
}

// Letters of pictures, which axe does not look at, with less contrast than `least`. Runs in the page.
function dim(least) {
  const light = (color) => {
    const parts = color.match(/[\d.]+/g).slice(0, 3).map((each) => each / 255);
    const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = light(getComputedStyle(document.body).backgroundColor);
  const low = new Map();
  for (const text of document.querySelectorAll("svg text")) {
    const own = light(getComputedStyle(text).fill);
    const contrast = (Math.max(own, behind) + 0.05) / (Math.min(own, behind) + 0.05);
    if (contrast < least) low.set(getComputedStyle(text).fill, contrast);
  }
  return [...low].map(([color, contrast]) => `letters of ${color} in a picture have a contrast of ${contrast.toFixed(2)}`);
}
