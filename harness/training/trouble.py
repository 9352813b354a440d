"""What a machine runs out of while it trains, in one line that says what would help."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import StoreError, TrainingError, one_line
from harness.models.memory import is_out_of_memory
from harness.training import checkpoints
from harness.training.train import Job


@contextmanager
def explained(job: Job, work: Path) -> Iterator[None]:
    """Turn what a machine runs out of into one line that says what would help."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            settings = job.training.settings
            fewer = f"qlora.together ({settings.together}) or " if settings.together > 1 else ""
            raise TrainingError(
                f"training on {job.spec.name}: out of memory; lower {fewer}"
                f"qlora.per_device_train_batch_size ({settings.per_device_train_batch_size}; "
                f"raise qlora.gradient_accumulation_steps to keep the step), set "
                f"qlora.gradient_checkpointing=true, or lower qlora.max_length "
                f"({settings.max_length or 'the longest row'})"
            ) from None
        if not _is_disk(error):
            raise
        kept = checkpoints.newest(work)
        raise StoreError(
            f"{work.parent}: the training run cannot be written (is the disk full?): "
            f"{one_line(error, 120)}; "
            + (f"what it had after step {checkpoints.step_of(kept)} is kept. " if kept else "")
            + "Make room and start again"
        ) from None


def _is_disk(error: BaseException) -> bool:
    """Whether writing failed; torch and safetensors say so in a RuntimeError or their own error."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in full
    words = (
        "No space left",
        "Disk quota exceeded",
        "File too large",
        "Read-only file system",
        "PytorchStreamWriter",  # torch's words for a full disk
        "inline_container",
        "iostream error",
    )
    return any(word in str(error) for word in words)
