"""`python -m tests.strength [NAME ...]`: plants each bug, prints which instrument caught it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from strength.runner import main

sys.exit(main())
