"""Real servers under everything that they must withstand; `STRESS=long` makes it last some minutes."""

from __future__ import annotations

import os

LONG = os.environ.get("STRESS") == "long"
