"""Alembic: ``env`` and one file per change of the schema."""
