"""Trained adapters: each trained once, under a name made of all that determines it.

An adapter is a folder under ``<results>/adapters/``; it appears there complete or not at all. A
file lock lets several processes that need the same adapter train it once, and a lease several
machines that share a results directory; a run that was killed is resumed.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from harness.core import Example, ModelSpec, PromptTemplate, TrainingSpec, digest
from harness.errors import DivergenceError
from harness.files import publish_folder, temporary
from harness.models.code import TRAINING, code_digest
from harness.models.loading import is_four_bit
from harness.models.memory import free
from harness.models.pool import FRESH, Fresh
from harness.results.adapter_files import is_complete
from harness.results.remote import Nowhere
from harness.training import checkpoints
from harness.training.gathering import Siblings, Wanted, gather, warn_if_damaged
from harness.training.grouped import UngroupableError
from harness.training.joint import train_together
from harness.training.member import Order
from harness.training.state import Progress
from harness.training.together import is_joint, kind_of, reason_apart
from harness.training.train import Job, TrainingWarning, train
from harness.training.trouble import explained

# Settings that do not change what is trained, or that stand elsewhere in the key.
ASIDE = (
    "save_steps",
    "save_total_limit",
    "holdout_rows",
    "quantization",
    "bnb_4bit_use_double_quant",
    "bnb_4bit_compute_dtype",
    "together",
)


def adapter_key(
    spec: ModelSpec,
    template: PromptTemplate,
    training: TrainingSpec,
    libraries: Sequence[tuple[str, str]],
    test: Sequence[Example] = (),
) -> str:
    """SHA-256 over everything that determines the adapter's bytes.

    The ``test`` rows do where the training run is evaluated: the curve is kept with the adapter,
    and the checkpoint may be chosen on them.

    Args:
        spec: the base as it is trained.
        template: the prompt of the training rows.
        training: rows and settings.
        libraries: (name, version) of those that take part.
        test: the test rows.
    """
    settings = asdict(training.settings)
    evaluated = settings["eval_steps"] is not None
    return digest(
        {
            "base": _base(spec),
            "template": [template.preamble, template.demonstration, template.query, template.chat],
            "settings": {name: v for name, v in settings.items() if name not in ASIDE},
            # The order of steps is made of the rows' ids, whatever order the rows are in.
            "examples": sorted(example.content for example in training.examples),
            "stages": [
                [stage.num_train_epochs, stage.learning_rate, sorted(e.id for e in stage.examples)]
                for stage in training.stages
            ],
            "test": [example.content for example in test] if evaluated else [],
            "holdout": [example.content for example in training.holdout],
            "libraries": [list(pair) for pair in libraries],
            "code": code_digest(TRAINING),
            # In a batch with others, last digits differ. Which others they are is of no account.
            **({"together": True} if is_joint(spec, training.settings) else {}),
        }
    )


def _base(spec: ModelSpec) -> list[str | bool]:
    found = [spec.digest, spec.quantization, spec.dtype, spec.device]
    return [*found, spec.double_quant, spec.compute_dtype] if is_four_bit(spec) else [*found]


def train_once(
    folder: Path,
    spec: ModelSpec,
    base: Path,
    template: PromptTemplate,
    training: TrainingSpec,
    progress: Progress,
    test: Sequence[Example] = (),
    remote: Nowhere = Nowhere(),
    siblings: Siblings | None = None,
    bases: Fresh = FRESH,
) -> Path:
    """Return ``folder`` with the trained adapter in it, training it if nobody has yet.

    A training run that was killed is resumed from its checkpoints in ``<name>.work``. Where
    adapters are trained together, siblings that nobody has or trains are in their folders, too.

    Args:
        folder: where the adapter belongs.
        spec: the base as it is trained and later scored.
        base: the base model's files.
        template: the prompt, shown without demonstrations.
        training: rows and settings.
        progress: called with (step, steps, a short text).
        test: rows that the training run is evaluated on, where its settings ask for that.
        remote: where another machine may have trained it, or be training it.
        siblings: others that are wanted, and what is known of them.
        bases: where the base comes from, and where it goes afterwards.

    Raises:
        ModelError: the base cannot be loaded.
        PromptError: a row does not fit the model.
        TrainingError: the loss was not finite, or memory ran out.
        StoreError: what was trained cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder, progress):
        if is_complete(folder):
            for work in (_work(folder), _joint_work(folder)):  # of a process killed at its end
                shutil.rmtree(work, ignore_errors=True)
            return folder
        known = Siblings() if siblings is None else siblings
        if folder in known.failed:
            raise known.failed[folder]
        warn_if_damaged(folder)
        job = Job(spec, base, template, training, tuple(test), bases)
        remote.once(
            folder,
            lambda: _train(folder, job, progress, remote, known),
            lambda holder: progress(0, 0, f"waiting for {holder} to train"),
        )
    return folder


def _train(folder: Path, job: Job, progress: Progress, remote: Nowhere, siblings: Siblings) -> None:
    """Train an adapter: with its siblings where it is to be, and may be; else alone."""
    spec, settings = job.spec, job.training.settings
    kind = spec, kind_of(settings)
    apart = siblings.apart.get(kind) or reason_apart(spec, settings)
    if settings.together > 1 and not apart:
        first, limit = Wanted(folder, job.training), settings.together
        try:
            gather(
                first,
                siblings.wanted,
                limit,
                remote,
                lambda group: _train_group(group, job, progress, siblings),
            )
        except UngroupableError as error:
            apart = siblings.apart[kind] = str(error)
        if folder in siblings.failed:
            raise siblings.failed[folder]
    if settings.together > 1 and apart:
        warnings.warn(
            TrainingWarning(
                f"qlora.together={settings.together}: {spec.name} is trained for each seed and "
                f"setting alone: {apart}"
            ),
            stacklevel=4,
        )
    if settings.together == 1 or apart:
        _train_alone(folder, job, progress, apart if settings.together > 1 else "")


@contextmanager
def _locked(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock of an adapter; say so while another process has it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(0, 0, "waiting for another process to train")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _train_group(group: Sequence[Wanted], job: Job, progress: Progress, siblings: Siblings) -> None:
    """Train adapters in one batch, each into its folder the moment that it has its last step.

    Args:
        group: at least one.
        job: what is to be trained of the first.
        progress: called with (step, steps, a short text).
        siblings: where those are kept whose loss was not finite.

    Raises:
        UngroupableError: the adapters of this model cannot be trained in one batch.
    """
    folders = {
        Order(
            replace(job, training=one.training), temporary(one.folder), _joint_work(one.folder)
        ): one.folder
        for one in group
    }
    for order in folders:
        shutil.rmtree(order.draft, ignore_errors=True)
    try:
        with explained(job, _joint_work(group[0].folder)):
            ended = train_together(
                list(folders),
                progress,
                lambda order: publish_folder(order.draft, folders[order]),
            )
        siblings.failed |= {folders[order]: error for order, error in ended.items()}
    finally:
        for order, folder in folders.items():
            shutil.rmtree(order.draft, ignore_errors=True)
            worthless = folder in siblings.failed or is_complete(folder)
            if worthless or checkpoints.newest(order.work) is None:
                shutil.rmtree(order.work, ignore_errors=True)
        free()


def _train_alone(folder: Path, job: Job, progress: Progress, apart: str) -> None:
    draft, work = temporary(folder), _work(folder)
    shutil.rmtree(draft, ignore_errors=True)  # of an earlier process with our number
    worthless = False
    try:
        with explained(job, work):
            train(draft, work, job, progress, apart)
            publish_folder(draft, folder)
        worthless = True  # by now everything is in the folder
    except DivergenceError:
        worthless = True  # it would come to the same end again
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if worthless or checkpoints.newest(work) is None:
            shutil.rmtree(work, ignore_errors=True)
        free()


def _work(folder: Path) -> Path:
    """Where checkpoints lie until the training run has ended or cannot be resumed."""
    return folder.with_name(f"{folder.name}.work")


def _joint_work(folder: Path) -> Path:
    """The same for one that is trained in one batch with others, whose checkpoints are others."""
    return folder.with_name(f"{folder.name}.joint.work")
