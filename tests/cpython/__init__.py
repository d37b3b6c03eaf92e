"""CPython's own test suite, in jailed workers: what ordinary Python code needs works there."""
