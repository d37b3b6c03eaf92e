"""Fresh state: what a handler changes is not there for the next invocation; with the warm worker as the control."""
