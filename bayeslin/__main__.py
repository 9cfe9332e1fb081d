"""`python -m bayeslin`."""

import sys

from bayeslin.cli import main

sys.exit(main())
