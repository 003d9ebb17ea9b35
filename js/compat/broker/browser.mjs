// Pages in a headless Chromium, from an origin of their own, with every call going over the network.
// Prints the origin, then reads the server's URL, which must let that origin in.
import { createServer } from "node:http";
import { chromium } from "playwright-core";
import { bundle } from "./bundle.mjs";
import { ask, equal, insert, lines, login, main, TRAPS } from "./server.mjs";

const PATIENCE = { timeout: 30_000 };

/** Opens the page of `entry`, which finds `arranged` in its window. */
async function open(browser, origin, pages, entry, arranged) {
  const script = await bundle(entry);
  const [name] = entry.split(".");
  pages.set(`/${name}`, `<!doctype html><meta charset="utf-8"><title>${entry}</title><div id="root"></div>
<script>window.arranged = ${JSON.stringify(arranged)}</script><script src="/${name}.js"></script>`);
  pages.set(`/${name}.js`, script);
  const page = await browser.newPage({ viewport: { width: 900, height: 560 } });
  page.on("pageerror", (error) => console.error(`${entry}: ${error}`));
  page.on("console", (message) => message.type() === "error" && console.error(`${entry}: ${message.text()}`));
  await page.goto(`${origin}/${name}`);
  return page;
}

/** The state that the page shows, once `is` says it is the one. */
async function state(page, is) {
  await page.waitForFunction(is, undefined, PATIENCE);
  return JSON.parse(await page.textContent("#state"));
}

async function traps(browser, origin, pages, entry, url) {
  const token = await login(url, entry);
  const collection = crypto.randomUUID();
  const page = await open(browser, origin, pages, entry, { url, token });
  await insert(url, token, "traps", collection, TRAPS);
  const shows = `document.querySelector("#state")?.textContent.includes("${collection}")`;
  const found = await state(page, shows);
  const event = found.events.find((e) => e.collection_id === collection);
  equal(event.data, TRAPS);
  equal(found.rows.find((row) => row.collection_id === collection).far, TRAPS.far);
  await page.close();
}

async function grid(browser, origin, pages, url, screenshot) {
  const token = await login(url, "grid");
  const collection = crypto.randomUUID();
  await insert(url, token, "people", collection, { fullName: "Ada", city: "Zürich" }, 1000);
  const page = await open(browser, origin, pages, "grid.jsx", { url, token });
  await page.getByText("Zürich").waitFor(PATIENCE);

  // A new row.
  await page.getByTitle("Add").first().click(PATIENCE);
  const added = page.locator("tr", { has: page.getByTitle("Save") });
  await added.getByPlaceholder("City").fill("東京");
  await added.getByPlaceholder("Full name").fill("Grace: id: 5");
  await added.getByTitle("Save").click();
  await page.getByText("東京").waitFor(PATIENCE);

  // Another value in the row that was there.
  const old = page.locator("tr", { hasText: "Zürich" });
  await old.getByTitle("Edit").click();
  // The button under the mouse has lost its title to a tooltip.
  const edited = page.locator("tr", { has: page.getByPlaceholder("City") });
  await edited.getByPlaceholder("City").fill("Genève");
  await edited.getByRole("button").first().click();
  await page.getByText("Genève").waitFor(PATIENCE);
  await page.getByText("Zürich").waitFor({ state: "detached", ...PATIENCE });
  if (screenshot) await page.screenshot({ path: screenshot });
  await page.close();

  const { events } = await ask(url, `/collections/${collection}`, undefined, token);
  equal(events.map((e) => [e.data.city, e.published]), [["Zürich", true], ["Genève", true]]);
  const inserted = (await ask(url, "/user_events", undefined, token)).events;
  equal(inserted.map((e) => e.data.fullName).sort(), ["Ada", "Ada", "Grace: id: 5"]);
}

main(async () => {
  const [screenshot] = process.argv.slice(2);
  const pages = new Map();
  const site = createServer((request, response) => {
    const page = pages.get(request.url);
    const kind = request.url.endsWith(".js") ? "text/javascript" : "text/html";
    response.writeHead(page ? 200 : 404, { "content-type": `${kind}; charset=utf-8` });
    response.end(page);
  });
  await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
  const origin = `http://localhost:${site.address().port}`;
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  console.log(`origin ${origin}`);
  const { value: url } = await lines.next();
  try {
    await traps(browser, origin, pages, "client-page.js", url);
    await traps(browser, origin, pages, "hook.jsx", url);
    await grid(browser, origin, pages, url, screenshot);
  } finally {
    await browser.close();
    site.close();
  }
});
