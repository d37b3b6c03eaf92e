"""Operators: who they are, and what they see and do over all tenants and nodes."""
