"""`python -m tests.model [SCENARIO ...]`: the map under every order that C11 allows."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from model.runner import main

sys.exit(main())
