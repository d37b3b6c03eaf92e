"""The function that is measured: JSON in, JSON out, typed. ``apps.py`` and ``floor/worker.py`` do the same work."""


def hello(name: str) -> dict[str, str]:
    return {"greeting": f"Hello, {name}!"}
