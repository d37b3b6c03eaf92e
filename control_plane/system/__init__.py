"""What belongs to no tenant: the runtime description, health, and the pages about errors."""
