"""Members of a tenant, their roles, and the invitations that make new ones."""
