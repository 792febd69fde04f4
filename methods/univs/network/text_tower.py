"""The CLIP text tower: embeddings of category names and of expressions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from methods.univs.network.concepts import ConceptBank
from methods.univs.network.tokenizer import Tokenizer, clean, templates
from methods.univs.settings import TextSettings

_AT_ONCE = 256  # texts


class TextTower(nn.Module):
    """CLIP's text transformer, from transformers; always in eval mode where it is frozen.

    ``nano`` uses the same network, small, with hashed words: nothing but its weights is needed to read a text. Two
    words share an embedding with probability 1 / 2045.

    Args:
        tokenizer: folder of CLIP's vocabulary, see ``Tokenizer``.
    """

    def __init__(self, settings: TextSettings, tokenizer: str | Path | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.tokenize = Tokenizer(settings, tokenizer)
        self.body = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=settings.vocabulary,
                hidden_size=settings.width,
                intermediate_size=4 * settings.width,
                projection_dim=settings.outputs,
                num_hidden_layers=settings.layers,
                num_attention_heads=settings.heads,
                max_position_embeddings=settings.context,
                hidden_act="quick_gelu",
                pad_token_id=0,
                bos_token_id=self.tokenize.start,
                eos_token_id=self.tokenize.end,
            )
        )
        self.bank = ConceptBank(settings.outputs)
        if settings.frozen:
            self.requires_grad_(False)
        self.train()

    def concepts(self, names: Sequence[str]) -> Tensor:
        """Embeddings (K, D) of a vocabulary; kept in the bank, without gradient, where the tower is frozen.

        Raises:
            InputError: a name without words, or no CLIP vocabulary.
        """
        if not self.settings.frozen:
            return self.names(names)
        known = self.bank.get(names)
        if known is None:
            with torch.inference_mode(False), torch.no_grad():  # kept rows may serve in training later
                known = self.bank.add(names, self.names(names))
        return known

    def names(self, names: Sequence[str]) -> Tensor:
        """Concepts (len(names), D): the end-of-text feature averaged over the templates, not normalised."""
        texts = [clean(name) for name in names]
        return torch.stack([self._encode(texts, template)[1] for template in templates(self.settings)]).mean(0)

    def expressions(self, texts: Sequence[str]) -> Tensor:
        """Tokens (len(texts), 1 + context, D): the sentence, averaged over the templates, then the words.

        The words are those of the first template, padding included.
        """
        texts = [clean(text) for text in texts]
        words, sentence = zip(*(self._encode(texts, template) for template in templates(self.settings)), strict=True)
        return torch.cat([torch.stack(sentence).mean(0)[:, None], words[0]], 1)

    def train(self, mode: bool = True) -> TextTower:
        """Training mode, unless frozen."""
        return super().train(mode and not self.settings.frozen)

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        self.bank.clear()
        super()._load_from_state_dict(*args, **options)

    def _encode(self, texts: Sequence[str], template: str) -> tuple[Tensor, Tensor]:
        """Words (K, context, D) and sentence (K, D); padding is read as released: without an attention mask."""
        device = self.body.text_projection.weight.device
        rows = self.tokenize(texts, template).to(device).split(_AT_ONCE)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.settings.frozen):
            parts = [self.body(input_ids=row) for row in rows]
            words = torch.cat([self.body.text_projection(part.last_hidden_state) for part in parts])
            return words, torch.cat([part.text_embeds for part in parts])
