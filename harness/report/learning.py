"""What a report says of training runs: their settings, rows, curves and chosen checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace

from harness.messages import say
from harness.naming import slug
from harness.records import Measurement, TrainingRecord
from harness.report.language import ENGLISH, Language
from harness.report.nouns import Curve, CurvePoint, StageFacts, Training, finite
from harness.results.manifest import Entry

Figures = dict[str, tuple[str, str]]  # name → (heading, SVG to stand inside HTML)


def training_runs(rows: Iterable[tuple[Entry, Measurement]], pool: int) -> tuple[Training, ...]:
    """Describe each training run, of a pool of so many rows: one entry for all its seeds."""
    found: dict[tuple[str, ...], Training] = {}
    for entry, measurement in rows:
        record = measurement.training
        if record is None:
            continue
        name = (entry.model, entry.quantization, entry.dtype, entry.prompt)
        key = (*name, entry.training_label)
        training = found.get(key) or _training(name, entry.training_label, record, pool)
        if entry.seed not in [run.seed for run in training.runs]:
            # An adapter can be scored in several ways.
            training = replace(
                training,
                together=max(training.together, record.together),
                runs=(*training.runs, _curve(entry.seed, record)),
            )
        found[key] = training
    return tuple(found.values())


def _training(name: tuple[str, ...], label: str, record: TrainingRecord, pool: int) -> Training:
    return Training(
        slug=slug("-".join((label, *name))),
        label=label,
        model=name[0],
        quantization=name[1],
        prompt=name[3],
        rows=record.rows,
        pool=pool,
        tokens=record.tokens,
        steps=record.steps,
        trained_rows=record.trained_rows,
        trained_tokens=record.trained_tokens,
        trainable_parameters=record.trainable_parameters,
        optimizer=record.optimizer,
        left_out=record.left_out,
        holdout=len(record.holdout_ids),
        select_on=record.select_on,
        stages=tuple(
            StageFacts(len(stage.ids), stage.steps, stage.num_train_epochs, stage.learning_rate)
            for stage in record.stages
        ),
        settings={key: value for key, value in record.settings.items() if key != "seed"},
        ids=record.ids if record.rows < pool else None,
        apart=record.apart,
    )


def _curve(seed: int | None, record: TrainingRecord) -> Curve:
    """One seed's curve; the training loss of a point is the mean since the point before it."""
    points, before = [], 0
    for point in record.evaluations:
        since = record.losses[before : point.step]
        before = point.step
        points.append(
            CurvePoint(
                step=point.step,
                loss=finite(point.loss),
                mean_perplexity=finite(point.mean_perplexity),
                holdout_loss=finite(point.holdout_loss),
                holdout_perplexity=finite(point.holdout_perplexity),
                training_loss=finite(sum(since) / len(since) if since else None),
                best=point.step == record.best_step,
            )
        )
    boundaries, steps = [], 0
    for stage in record.stages[:-1]:
        steps += stage.steps
        boundaries.append(steps)
    return Curve(
        seed=seed,
        losses=tuple(map(finite, record.losses)),
        evaluations=tuple(points),
        best_step=record.best_step,
        boundaries=tuple(boundaries),
    )


def draw(
    entries: Sequence[Training],
    scored_pool: Mapping[str, tuple[int, float]],
    language: Language = ENGLISH,
) -> Figures:
    """Draw each training run's learning curve, and which rows of the pool it chose.

    Args:
        entries: what :func:`training_runs` returned.
        scored_pool: id → (characters of the output, score); empty where not all have a score.
        language: what the pictures say.
    """
    from harness.report.figures.training import learning_curve, length_against_score

    found = {}
    for entry in entries:
        title = say(
            "{label} on {model} ({quantization}, {prompt})",
            label=entry.label,
            model=entry.model,
            quantization=entry.quantization,
            prompt=entry.prompt,
        )
        runs = [asdict(run) for run in entry.runs]
        svg = learning_curve(entry.slug, language.of(title), runs, entry.select_on, language)
        heading = language.of(say("Learning curve of {title}", title=title))
        found[f"curve-{entry.slug}"] = heading, svg
        if entry.ids is not None and scored_pool:
            chosen = set(entry.ids)
            points = [(float(n), score, id_ in chosen) for id_, (n, score) in scored_pool.items()]
            heading = language.of(say("Rows chosen for {title}", title=title))
            found[f"rows-{entry.slug}"] = (
                heading,
                length_against_score(entry.slug, language.of(heading), points, language),
            )
    return found
