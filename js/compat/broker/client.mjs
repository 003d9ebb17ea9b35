// broker-client in Node: data full of traps arrives as it was sent, also between keep-alives.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { bundle } from "./bundle.mjs";
import { equal, insert, login, main, TRAPS } from "./server.mjs";

main(async () => {
  const [url] = process.argv.slice(2);
  const dir = await mkdtemp(join(tmpdir(), "broker-client-"));
  const file = join(dir, "client.mjs");
  await writeFile(file, await bundle("client-entry.js", "node"));
  const { default: BrokerClient } = await import(pathToFileURL(file));
  await rm(dir, { recursive: true });

  const token = await login(url, "node");
  const collection = crypto.randomUUID();
  await insert(url, token, "traps", collection, { n: 0 }, 1000);

  const frames = [];
  let wake = () => {};
  const client = new BrokerClient(`${url}/events`, { headers: { authorization: `Bearer ${token}` } });
  const others = [];
  client.onmessage = (event) => event.type !== "traps" && others.push(event.type);
  client.addEventListener("traps", (event) => {
    frames.push(event);
    wake();
  });
  const frame = async (number) => {
    while (frames.length <= number) await new Promise((resolve) => (wake = resolve));
    return frames[number];
  };

  const first = JSON.parse((await frame(0)).data);
  equal(first.rows, [{ n: 0, timestamp: "1000", collection_id: collection }]);
  // Long enough for several keep-alives: whoever started the server made them frequent.
  await new Promise((resolve) => setTimeout(resolve, 300));
  await insert(url, token, "traps", collection, TRAPS);
  const second = await frame(1);
  const state = JSON.parse(second.data);
  equal(state.events[0].data, TRAPS);
  equal(Object.keys(TRAPS).map((key) => state.rows[0][key]), Object.values(TRAPS));
  equal(state.columns.slice(0, 2).map((c) => c.field), ["timestamp", "collection_id"]);
  if (!/^[0-9a-f-]{36}$/.test(second.lastEventId)) throw new Error(`an odd id: ${second.lastEventId}`);
  equal(others, []);
});
