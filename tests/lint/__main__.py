"""`python -m tests.lint`: every rule over every tracked file; exit status 1 if one finds an error."""

import sys

from tests.lint import rules_docs, rules_python, rules_queries, rules_text, rules_zig
from tests.lint.repository import RULES, findings, tracked

MODULES = (rules_text, rules_python, rules_zig, rules_docs, rules_queries)


def main() -> int:
    repository = tracked()
    errors = warnings = 0
    for rule, finding in findings(repository):
        errors += not finding.warning
        warnings += finding.warning
        kind = "warning: " if finding.warning else ""
        print(f"{finding.path}:{finding.line}: {kind}{finding.text} [{rule.name}]")
    count = f"{len(RULES)} rules in {len(MODULES)} files over {len(repository.files)} files"
    print(f"{count}: {errors} errors, {warnings} warnings")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
