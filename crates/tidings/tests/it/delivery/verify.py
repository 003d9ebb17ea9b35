"""Verifies webhooks from stdin with the official library, and that changed ones are refused."""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

verified = refused = 0
for case in json.load(sys.stdin):
    webhook = Webhook(case["secret"])
    assert webhook.verify(case["body"], case["headers"]) == json.loads(case["body"])
    verified += 1
    try:
        webhook.verify(case["body"] + " ", case["headers"])
    except WebhookVerificationError:
        refused += 1
print(f"{verified} verified, {refused} refused")
