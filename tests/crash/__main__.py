"""`python -m tests.crash [--images N] [--seed S] [--state FILE]`: power cuts at every call."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crash.runner import main

sys.exit(main())
