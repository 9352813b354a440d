"""The tests, in the rooms of what they test."""

# Files and folders in the order of their seconds, which together are two thirds of all. Under
# `make test` each worker takes the next file when it has done its own, and a slow file at the end
# would leave the others without work.
SLOW_FIRST = (
    "tests/test_real.py",
    "tests/training/",
    "suites/test_conformance.py",
    "tests/integration/",
    "tests/test_docs.py",
    "tests/engine/",
    "tests/conformance/",
    "tests/report/test_browser.py",
)
