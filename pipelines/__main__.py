"""`python -m pipelines` is the command `gridwatch`."""

import sys

from pipelines.cli.main import main

sys.exit(main())
