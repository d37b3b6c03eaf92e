"""Receives signed webhooks: checks the signature, answers what it would do with the event.

Event style: ``handler(event, context)`` as AWS Lambda's function URLs call it (payload format 2.0), with nothing of
Tailcut in it. The sender signs ``{timestamp}.{body}`` with HMAC-SHA256 and a shared secret:

    X-Webhook-Timestamp: 1767225600
    X-Webhook-Signature: sha256=5d41…
"""

import base64
import hashlib
import hmac
import json
import os
import time

AGE_S_MAX = 300
"""An older signature may be a recorded one that somebody plays again."""

# Read once, when the function is deployed: a missing secret fails the deploy and not the first webhook.
SECRET = os.environ["WEBHOOK_SECRET"].encode()


def handler(event, context):
    headers = event["headers"]
    body = _body(event)
    reason = _refusal(headers, body)
    if reason is not None:
        return _answer(401, {"error": reason})
    try:
        message = json.loads(body)
    except ValueError as error:
        return _answer(400, {"error": f"the body is not JSON: {error}"})
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return _answer(422, {"error": 'the body is not an object with a text "type"'})
    return _answer(200, {"received": message["type"], "request_id": context.aws_request_id})


def _refusal(headers, body):
    """Why the signature is not accepted; None if it is."""
    timestamp = headers.get("x-webhook-timestamp", "")
    signature = headers.get("x-webhook-signature", "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return "x-webhook-timestamp is missing or no number"
    if abs(time.time() - int(timestamp)) > AGE_S_MAX:
        return f"x-webhook-timestamp is more than {AGE_S_MAX} s away from now"
    expected = "sha256=" + hmac.new(SECRET, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    # Compares in constant time, so that nobody finds the signature byte by byte.
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        return "x-webhook-signature does not fit the body"
    return None


def _body(event):
    body = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()


def _answer(status, document):
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(document)}
