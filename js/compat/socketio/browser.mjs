// The same in a page of a headless Chromium, from an origin of its own, which is the first line that is printed.
import { build } from "esbuild";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const entry = `import { driver } from "./driver.mjs"; window.command = driver(window.report);`;
const done = await build({
  stdin: { contents: entry, resolveDir: fileURLToPath(new URL(".", import.meta.url)) },
  bundle: true,
  write: false,
  format: "iife",
  logLevel: "error",
});
const script = done.outputFiles[0].text;

const site = createServer((request, response) => {
  const isScript = request.url === "/page.js";
  response.writeHead(200, { "content-type": `text/${isScript ? "javascript" : "html"}; charset=utf-8` });
  response.end(isScript ? script : `<!doctype html><meta charset="utf-8"><title>t</title><script src="/page.js"></script>`);
});
await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
const origin = `http://localhost:${site.address().port}`;
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await browser.newPage();
page.on("pageerror", (error) => console.error(error));
await page.exposeFunction("report", (report) => console.log(JSON.stringify(report)));
await page.goto(origin);
console.log(JSON.stringify({ name: "page", event: "origin", args: [origin] }));
for await (const line of createInterface({ input: process.stdin })) {
  await page.evaluate((command) => window.command(command), JSON.parse(line));
}
await browser.close();
process.exit(0);
