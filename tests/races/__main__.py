"""`python -m tests.races`: the map's writer and readers at full speed, from plain builds."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from races.runner import main

sys.exit(main())
