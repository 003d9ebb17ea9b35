// What every script does with a server: a user, a token, inserts.
import { createInterface } from "node:readline";

/** Data that a careless server or client breaks. */
export const TRAPS = {
  s: "paid: yes, id: 5, retry: 1, data: x, event: y",
  latin: "é ß ÿ",
  far: "中文 😀",
  controls: 'a\n\nb\t"\\ \u2028',
};

/** The lines that whoever started this script sends. */
export const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

export async function ask(url, path, body, token) {
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const init = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  const response = await fetch(url + path, init);
  const text = await response.text();
  if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
  return JSON.parse(text);
}

/** A new user's token. */
export async function login(url, username) {
  const user = { username, password: "correct horse", collection_id: crypto.randomUUID() };
  await ask(url, "/users", user);
  return (await ask(url, "/login", user)).jwt;
}

export function insert(url, token, event, collection_id, data, timestamp = Math.floor(Date.now() / 1000)) {
  return ask(url, "/insert", { event, collection_id, timestamp, data }, token);
}

export function equal(found, expected) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) throw new Error(`expected ${b}, found ${a}`);
}

/** Runs a script; whoever started it reads how it went. */
export function main(work) {
  work().then(
    () => {
      console.log("done");
      process.exit(0);
    },
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
}
