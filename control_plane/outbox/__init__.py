"""What leaves the database: the routing table to Redis, and the reports that come back."""
