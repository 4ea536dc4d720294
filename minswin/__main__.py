"""`python -m minswin` is the command `minswin`."""

import sys

from minswin.cli import main

sys.exit(main())
