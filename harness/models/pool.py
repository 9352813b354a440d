"""The model in hand: one at a time, and where adapters take turns, one base for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.core import ModelSpec
from harness.models.encoding import Encoder
from harness.models.hand import Hand, bare
from harness.models.loading import LoadedModel, load, load_base, load_encoder
from harness.models.memory import free

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class Fresh:
    """Bases for training runs, each loaded from its files."""

    def take(self, spec: ModelSpec, folder: Path) -> PreTrainedModel:
        """The base of a model, without an adapter; it belongs to who asks.

        Raises:
            ModelError: it cannot be loaded.
        """
        return load_base(spec, folder)

    def give_back(self, spec: ModelSpec, model: PreTrainedModel | PeftModel) -> None:
        """Hand in a base that is not needed any more, perhaps with an adapter on it."""


FRESH = Fresh()


class ModelPool(Fresh):
    """Keeps the model that was used last; asking for another one lets go of it first.

    Args:
        reuse: whether the base is kept where only its adapter changes.
    """

    def __init__(self, *, reuse: bool = False) -> None:
        self._current: LoadedModel | None = None
        self._encoders: dict[str, Encoder] = {}
        self._hand = Hand({}) if reuse else None

    def encoder(self, spec: ModelSpec, folder: Path) -> Encoder:
        """Return the encoder of the model's tokenizer; needs no weights.

        Raises:
            ModelError: the tokenizer cannot be loaded.
        """
        # An adapter may bring a tokenizer of its own.
        key = f"{spec.digest} {spec.adapter_digest if spec.adapter else None}"
        if key not in self._encoders:
            self._encoders[key] = load_encoder(spec, folder)
        return self._encoders[key]

    def get(self, spec: ModelSpec, folder: Path, adapter: Path | None) -> LoadedModel:
        """Return the model in eval mode, loading it unless it is the one in hand.

        Raises:
            ModelError: it cannot be loaded, or the adapter does not fit it.
        """
        if self._current is None or self._current.spec != spec:
            base = self.take(spec, folder)
            self._current = load(spec, folder, adapter, self.encoder(spec, folder), base)
        return self._current

    def take(self, spec: ModelSpec, folder: Path) -> PreTrainedModel:
        base = None
        if self._hand is not None:
            self.leave(spec)
            if self._current is not None:
                self.give_back(self._current.spec, self._current.model)
            base = self._hand.take(spec)
        self.clear()
        if base is None:
            base = load_base(spec, folder)
            if self._hand is not None:
                self._hand.loaded(spec, base)
        return base

    def give_back(self, spec: ModelSpec, model: PreTrainedModel | PeftModel) -> None:
        if self._hand is not None:
            self._hand.give(spec, model)

    def leave(self, spec: ModelSpec) -> None:
        """Let go of the model or the base in hand unless it is this one's."""
        kept = None if self._hand is None else self._hand.kept
        held = self._current.spec if self._current is not None else kept and kept[0]
        if self._hand is None or held is None or bare(held) != bare(spec):
            self.clear()

    def clear(self) -> None:
        """Let go of the model in hand and give its memory back."""
        self._current = None
        if self._hand is not None:
            self._hand.kept = None
        free()
