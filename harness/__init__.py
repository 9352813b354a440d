"""adaptbench: which adaptation of a language model is worth it, by how much, and how surely.

The package is import-light on purpose: nothing here imports torch or transformers at import
time, so collecting a run, serving it from the store and rendering a report stay fast.
"""

__version__ = "0.1.0"
