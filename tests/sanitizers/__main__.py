"""`python -m tests.sanitizers asan|tsan`: builds it, proves that it sees, runs the tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sanitizers.runner import main

sys.exit(main())
