"""`python -m telemetry_bus` is the command `telemetry-bus`."""

import sys

from .cli import main

sys.exit(main())
