"""Is it worth showing examples? A sweep from a script, without pytest.

    python examples/compare.py

Results go to ``results/`` of the working directory; a second run computes nothing. The environment
variables MODEL and LIMIT name another model and another number of test rows.
"""

from __future__ import annotations

import os

import adaptbench


def main() -> None:
    """Compare zero-shot with 1-shot and 3-shot; print the table, the sentences and the report."""
    run = adaptbench.compare(
        strategy=["zeroshot", "fewshot"],
        k=[1, 3],
        seeds=[0, 1],
        model=os.environ.get("MODEL", "smollm2-135m"),
        limit=os.environ.get("LIMIT", "16"),
    )
    print(run)
    print(*run.conclusions, sep="\n")
    print(run.report())


if __name__ == "__main__":
    main()
