"""``python -m gateway.supervisor`` is ``tailcut-server``."""

from gateway.supervisor.cli import main

main()
