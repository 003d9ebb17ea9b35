// Sockets in Node: a command a line on standard input, a report a line on standard output.
import { createInterface } from "node:readline";
import { driver } from "./driver.mjs";

const command = driver((report) => console.log(JSON.stringify(report)));
for await (const line of createInterface({ input: process.stdin })) command(JSON.parse(line));
process.exit(0);
