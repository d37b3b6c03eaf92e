"""The web pages at ``/``: server-rendered, no scripts, no third-party assets."""
