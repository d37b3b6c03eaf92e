"""The control plane: who may do what, which version serves, and what the gateways shall know.

Read in this order: ``app`` (how it is put together) → ``settings`` → ``database`` → ``models`` → one folder per
concern (``tenants``, ``auth``, ``functions``, ``bundles``, ``outbox``, ``dashboard``, ``system``), each with the same
role files: ``endpoints`` (HTTP) → ``service`` (rules) → ``repository`` (queries, always by tenant) → ``models``.
"""
