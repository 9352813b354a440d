"""adaptbench: which adaptation of a language model is worth it, by how much, and how surely.

The package is import-light on purpose: nothing here imports torch or transformers at import
time, so collecting a run, serving it from the store and rendering a report stay fast.
"""

import os

__version__ = "0.1.0"

# How threads wait for each other, unless the user says: soon asleep, not spinning for long. Where
# a core is busy with something else, or a container has fewer than it shows, spinning threads keep
# out the one that all of them wait for; asleep at once, they cost an idle machine a tenth. OpenMP
# reads it once, when torch is loaded.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
if not any(name in os.environ for name in WAITING):
    os.environ["GOMP_SPINCOUNT"] = "1000"
