"""Usage from the call to SQL: nothing is lost, nothing comes twice, whatever is killed in between."""
