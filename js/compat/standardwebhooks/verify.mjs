// Verifies webhooks from stdin with the official library, and that changed ones are refused.

import assert from "node:assert/strict";
import { text } from "node:stream/consumers";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

let verified = 0;
let refused = 0;
for (const { secret, headers, body } of JSON.parse(await text(process.stdin))) {
  const webhook = new Webhook(secret);
  assert.deepEqual(webhook.verify(body, headers), JSON.parse(body));
  verified += 1;
  assert.throws(() => webhook.verify(`${body} `, headers), WebhookVerificationError);
  refused += 1;
}
console.log(`${verified} verified, ${refused} refused`);
