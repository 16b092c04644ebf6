"""`python -m tests.sim --seed N`: replays one run exactly; `--minutes M` runs fresh seeds."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sim.runner import main

sys.exit(main())
