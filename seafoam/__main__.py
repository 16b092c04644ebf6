"""``python -m seafoam`` is the ``seafoam`` command; ``python -m seafoam server`` is the server."""

from seafoam.cli import client_main

if __name__ == "__main__":
    client_main()
