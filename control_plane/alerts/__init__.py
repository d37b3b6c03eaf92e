"""Tells tenants when usage reaches a threshold: by mail and by their webhook, once each."""
