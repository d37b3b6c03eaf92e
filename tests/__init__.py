"""Tests and the tools of the repository: lint/ (its rules), bench/ (its speed), run.py (what CI runs)."""
