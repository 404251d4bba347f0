"""`python -m audiosep` is the `audiosep` command."""

import sys

from audiosep.cli import main

sys.exit(main())
