"""What is asked of every peer: five functions, each with one request and the only right answer.

Called by ``peers`` (which checks every answer before it measures), ``load`` and ``__main__``.
"""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Workload:
    key: str
    title: str
    path: str
    """Below a peer's root; Tailcut has a function of this name instead."""
    handler: str
    """Attribute of hello/hello.py"""
    body: str
    answer: object
    """JSON, or text when the answer is no JSON."""


HELLO = Workload("hello", "hello", "/", "hello", json.dumps({"name": "bench"}), {"greeting": "Hello, bench!"})
SPIN_SHORT = Workload("spin50us", "a handler of 50 µs", "/spin50us", "spin50us", "{}", {"spun": True})
SPIN_LONG = Workload("spin5ms", "a handler of 5 ms", "/spin5ms", "spin5ms", "{}", {"spun": True})
ECHO_SMALL = Workload("echo1k", "1 KB there and back", "/echo", "echo", "e" * 1024, "e" * 1024)
ECHO_LARGE = Workload("echo1m", "1 MB there and back", "/echo", "echo", "e" * 2**20, "e" * 2**20)

WORKLOADS = {each.key: each for each in (HELLO, SPIN_SHORT, SPIN_LONG, ECHO_SMALL, ECHO_LARGE)}
