"""The examples, each deployed by the command line and called over HTTP."""
