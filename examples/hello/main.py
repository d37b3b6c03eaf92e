"""The first function: typed, so arguments are checked and described by their annotations."""


def hello(name: str = "world") -> dict[str, str]:
    """Greets somebody."""
    return {"message": f"Hello, {name}!"}
