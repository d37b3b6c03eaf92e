"""``python -m tailcut`` is the command ``tailcut``."""

from tailcut._cli.main import main

main()
