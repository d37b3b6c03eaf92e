"""The rules of this repository that a program can check: `python -m tests.lint`, part of `make check`.

- ``repository``      what the rules read: the tracked files
- ``rules_text``      every file: size, header, words, machine paths, registries
- ``rules_python``    environment only in settings, skips, tests that can fail, units
- ``rules_zig``       who imports whom, raw system calls, units of the bounds
- ``rules_docs``      promises name tests that exist, decisions are listed, links lead somewhere, the lock is whole
- ``import_contracts`` the two kinds of import rule that pyproject.toml uses
- ``exceptions.toml`` what is allowed in spite of a rule, each with its reason

Each message ends with the fix. test_rules.py shows each rule a good and a bad sample.
"""
