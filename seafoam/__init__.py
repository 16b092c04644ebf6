"""Seafoam: a JSON key-value store whose reads are as fast as the machine.

A node is started with ``seafoam-server`` and spoken to over HTTP, or with ``seafoam``. Importing
this package loads nothing but its version and its exceptions.
"""

from seafoam.errors import Detached, SeafoamError
from seafoam.version import VERSION

__all__ = ["Detached", "SeafoamError", "__version__"]

__version__ = VERSION
