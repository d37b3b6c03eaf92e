"""The floor's function: the work of ../hello/hello.py and nothing else. Started by floor.c with a descriptor."""

import json
import socket
import sys


def hello(name: str) -> dict[str, str]:
    return {"greeting": f"Hello, {name}!"}


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    while request := channel.recv(16384):
        channel.send(json.dumps(hello(**json.loads(request))).encode())


main()
