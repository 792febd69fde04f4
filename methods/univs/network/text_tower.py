"""Text: the CLIP text encoder, the bank of category embeddings, and the projection into the image space (Lang2Img).

Legend: K category names, D channels of a text embedding, L tokens, B clips, N prompts, T frames, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from methods.univs.network.attention import CrossAttention
from methods.univs.network.scene import Scene
from methods.univs.network.tokenizer import Tokenizer, clean, templates
from methods.univs.settings import TextSettings, UniVSSettings

_BATCH = 256  # texts encoded at once


class ConceptBank(nn.Module):
    """Cache of the text embeddings of vocabularies.

    It is no part of the state dict, as it follows from the names and the weights of the text encoder.

    Args:
        channels: D.
    """

    rows: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.empty(0, channels), persistent=False)
        self._slices: dict[tuple[str, ...], slice] = {}

    def get(self, names: Sequence[str]) -> Tensor | None:
        """Return the embeddings (K, D) of a vocabulary, or None if it was never added."""
        place = self._slices.get(tuple(names))
        return None if place is None else self.rows[place]

    def add(self, names: Sequence[str], rows: Tensor) -> Tensor:
        """Append the embeddings of a vocabulary and return them.

        Args:
            names: the K category names.
            rows: their embeddings (K, D).
        """
        self._slices[tuple(names)] = slice(len(self.rows), len(self.rows) + len(rows))
        self.rows = torch.cat([self.rows, rows])
        return rows

    def clear(self) -> None:
        """Remove all embeddings; needed whenever the text encoder's weights change."""
        self.rows = self.rows[:0]
        self._slices.clear()


class TextTower(nn.Module):
    """CLIP's text transformer, from transformers; always in eval mode if it is frozen.

    ``nano`` uses a small one with hashed words, which reads any text without a vocabulary file. Two words then share
    an embedding with probability 1 / 2045.

    Args:
        settings: sizes.
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
        """Return the embeddings (K, D) of a vocabulary; cached, without gradient, if the encoder is frozen.

        Raises:
            InputError: a name without words, or no CLIP vocabulary.
        """
        if not self.settings.frozen:
            return self.encode_names(names)
        rows = self.bank.get(names)
        if rows is None:
            # a tensor made in inference mode could never be part of a later training step
            with torch.inference_mode(False), torch.no_grad():
                rows = self.bank.add(names, self.encode_names(names))
        return rows

    def encode_names(self, names: Sequence[str]) -> Tensor:
        """Return embeddings (K, D): end-of-text features, averaged over the templates, not normalised."""
        texts = [clean(name) for name in names]
        return torch.stack([self._encode(texts, template)[1] for template in templates(self.settings)]).mean(0)

    def expressions(self, texts: Sequence[str]) -> Tensor:
        """Return tokens (len(texts), 1 + context, D): the sentence embedding, then one embedding for each word.

        The sentence is averaged over the templates. The words are those of the first template, padding included.
        """
        texts = [clean(text) for text in texts]
        words, sentence = zip(*(self._encode(texts, template) for template in templates(self.settings)), strict=True)
        return torch.cat([torch.stack(sentence).mean(0)[:, None], words[0]], 1)

    def train(self, mode: bool = True) -> TextTower:
        """Set training mode; a frozen encoder stays in eval mode."""
        return super().train(mode and not self.settings.frozen)

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        self.bank.clear()
        super()._load_from_state_dict(*args, **options)

    def _encode(self, texts: Sequence[str], template: str) -> tuple[Tensor, Tensor]:
        """Embeddings of words (K, context, D) and sentences (K, D).

        As released there is no attention mask: tokens also attend to the padding.
        """
        device = self.body.text_projection.weight.device
        batches = torch.split(self.tokenize(texts, template).to(device), _BATCH)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.settings.frozen):
            parts = [self.body(input_ids=batch) for batch in batches]
            words = torch.cat([self.body.text_projection(part.last_hidden_state) for part in parts])
            return words, torch.cat([part.text_embeds for part in parts])


class LanguageToImage(nn.Module):
    """Lang2Img: LayerNorm, linear (W_t2v), and one cross-attention from text tokens to all three scales of a frame."""

    def __init__(self, settings: UniVSSettings) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(settings.text.outputs)
        self.projection = nn.Linear(settings.text.outputs, settings.hidden)
        self.cross = CrossAttention(settings.hidden, settings.heads)

    def forward(self, text: Tensor, scene: Scene) -> Tensor:
        """Return text tokens that have attended to each frame, (B, N, T, L, C).

        Args:
            text: tokens (B, N, L, D).
            scene: features of the clips; their position codes are not used.
        """
        frames = scene.frame_index.shape[1]
        tokens = self.projection(self.norm(text))
        rows = tokens.flatten(1, 2).repeat_interleave(frames, 0)  # (B T, N L, C)
        attended = self.cross(rows, torch.cat(scene.sources, 2).flatten(0, 1))
        by_clip = torch.unflatten(attended, 0, (-1, frames))
        return torch.unflatten(by_clip, 2, tokens.shape[1:3]).transpose(1, 2)
