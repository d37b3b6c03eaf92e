"""A server with the shape of Stripe's API, for trying purchases without Stripe: no money moves anywhere.

Only what Tailcut uses of the API, and that strictly: unknown or missing parameters are refused, an idempotency key
repeats its answer, meter events outside of their window are refused, webhooks are signed. `tailcut-server up` starts
it on loopback when there is no Stripe key; the tests talk to it through the unpatched ``stripe`` package. The standard
library is all it needs, so that it starts in a moment and touches nothing of the control plane.

Reading order: ``server`` (HTTP) → ``routes`` (what there is and what each takes) → ``forms`` (reading it) →
``catalogue``, ``checkout``, ``subscriptions``, ``invoices``, ``meters``, ``payments`` (what each does) → ``store``,
``objects``, ``webhooks``, ``pages``.
"""
