"""What several tests build on: models, tasks, stored runs and snapshots with known numbers.

A test file imports from here and never from another test file.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
