"""Tokenizer of texts: cleaning, CLIP's sentence templates, and CLIP's BPE or hashed words."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from common.errors import InputError
from methods.univs.settings import TextSettings

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

# CLIP's sentence templates for ImageNet (Radford et al., 2021), grouped by their pattern.
_PHOTO_KINDS = (
    "bad, bright, blurry, black and white, close-up, cropped, dark, good, jpeg corrupted, low resolution, pixelated"
)
_ADJECTIVES = "hard to see, clean, dirty, cool, nice, weird, small, large"
_ARTWORKS = "a doodle, a drawing, a painting, a rendering, a rendition, a sculpture, a sketch, a tattoo, art, graffiti"
_MATERIALS = "cartoon, embroidered, origami, plastic, plushie, toy"


def templates(settings: TextSettings) -> list[str]:
    """Return sentence templates with ``{}`` in place of the text; the first is the text and a full stop."""
    if settings.templates == "plain":
        return ["{}."]
    out = ["{}.", *(f"a photo of {word} {{}}." for word in ("many", "my", "one")), "itap of my {}."]
    for word in ("a", "the"):
        out += [f"a photo of {word} {{}}.", f"itap of {word} {{}}.", f"{word} {{}} in a video game."]
        out += [f"a {kind} photo of {word} {{}}." for kind in _PHOTO_KINDS.split(", ")]
        out += [f"a photo of {word} {kind} {{}}." for kind in _ADJECTIVES.split(", ")]
        out += [f"{kind} of {word} {{}}." for kind in _ARTWORKS.split(", ")]
        out += [f"{word} {kind} {{}}." for kind in _MATERIALS.split(", ")]
    return out


def clean(text: str) -> str:
    """Return a text in lower case without digits and punctuation; underscores, hyphens and slashes become blanks.

    Raises:
        InputError: nothing is left of the text.
    """
    out = re.sub(r"[0-9.,'!?\"()*#:;]", "", text.lower())
    out = " ".join(re.sub(r"[_/+-]", " ", out).split())
    if not out:
        raise InputError(f"{text!r}: no word is left of this text without digits and punctuation; use words")
    return out


class Tokenizer:
    """Converts texts into rows of token numbers: start, words, end, zeros.

    Args:
        settings: lengths, and whether words are hashed.
        folder: folder of CLIP's ``vocab.json`` and ``merges.txt``, read on first use; not needed for hashed words.
    """

    def __init__(self, settings: TextSettings, folder: str | Path | None = None) -> None:
        self.settings = settings
        self.folder = folder
        self.start, self.end = settings.vocabulary - 2, settings.vocabulary - 1
        self._bpe: CLIPTokenizer | None = None

    def __call__(self, texts: Sequence[str], template: str = "{}") -> Tensor:
        """Return token numbers int64 (len(texts), context); sentences that are too long are truncated.

        Args:
            texts: texts, cleaned.
            template: sentence with ``{}`` in place of the text.

        Raises:
            InputError: a text that does not fit without its template, or no vocabulary.
        """
        out = torch.zeros(len(texts), self.settings.context, dtype=torch.long)
        room = self.settings.context - 2
        for row, text in zip(out, texts, strict=True):
            length = len(self._numbers(text))
            if length + 1 > room:
                raise InputError(
                    f"the text {text[:40]!r}… has {length} tokens, there is room for {room - 1}; make it shorter"
                )
            numbers = [self.start, *self._numbers(template.replace("{}", text))[:room], self.end]
            row[: len(numbers)] = torch.tensor(numbers)
        return out

    def _numbers(self, text: str) -> list[int]:
        if self.settings.hashed:
            # 0 is the padding, and the two last numbers are start and end
            return [1 + zlib.crc32(word.encode()) % (self.start - 1) for word in re.findall(r"\w+", text.lower())]
        if self._bpe is None:
            self._bpe = self._load()
        numbers: list[int] = self._bpe(text, add_special_tokens=False).input_ids
        return numbers

    def _load(self) -> CLIPTokenizer:
        from transformers import CLIPTokenizer

        if self.folder is None or not (Path(self.folder) / "vocab.json").is_file():
            raise InputError(
                f"{self.folder}: no CLIP vocabulary; text needs vocab.json and merges.txt of a CLIP model (on the "
                "Hugging Face hub, e.g. openai/clip-vit-base-patch32) in a folder: give its path as tokenizer"
            )
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(self.folder)
        return tokenizer
