"""Usage in SQL: rolled up by the hour, queried and exported."""
