"""From text to token numbers: cleaning, CLIP's sentences, CLIP's BPE or hashed words."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import InputError
from methods.univs.settings import TextSettings

# CLIP's sentences for ImageNet (Radford et al., 2021), by their pattern.
_PHOTOS = (
    "bad, bright, blurry, black and white, close-up, cropped, dark, good, jpeg corrupted, low resolution, pixelated"
)
_THINGS = "hard to see, clean, dirty, cool, nice, weird, small, large"
_PICTURES = "a doodle, a drawing, a painting, a rendering, a rendition, a sculpture, a sketch, a tattoo, art, graffiti"
_MADE = "cartoon, embroidered, origami, plastic, plushie, toy"


def templates(settings: TextSettings) -> list[str]:
    """Sentences with ``{}`` for the text; the first is the text and a full stop."""
    if settings.templates == "plain":
        return ["{}."]
    out = ["{}.", *(f"a photo of {word} {{}}." for word in ("many", "my", "one")), "itap of my {}."]
    for word in ("a", "the"):
        out += [f"a photo of {word} {{}}.", f"itap of {word} {{}}.", f"{word} {{}} in a video game."]
        out += [f"a {kind} photo of {word} {{}}." for kind in _PHOTOS.split(", ")]
        out += [f"a photo of {word} {kind} {{}}." for kind in _THINGS.split(", ")]
        out += [f"{kind} of {word} {{}}." for kind in _PICTURES.split(", ")]
        out += [f"{word} {kind} {{}}." for kind in _MADE.split(", ")]
    return out


def clean(text: str) -> str:
    """Lower case without digits and punctuation; underscores, hyphens and slashes are blanks.

    Raises:
        InputError: nothing is left.
    """
    out = re.sub(r"[0-9.,'!?\"()*#:;]", "", text.lower())
    out = " ".join(re.sub(r"[_/+-]", " ", out).split())
    if not out:
        raise InputError(f"{text!r}: no word is left of this text without digits and punctuation; use words")
    return out


class Tokenizer:
    """Texts as rows of token numbers: start, words, end, zeros.

    Args:
        folder: of CLIP's ``vocab.json`` and ``merges.txt``; not looked at where words are hashed. Read on first use.
    """

    def __init__(self, settings: TextSettings, folder: str | Path | None = None) -> None:
        self.settings = settings
        self.folder = folder
        self.start, self.end = settings.vocabulary - 2, settings.vocabulary - 1
        self._bpe: Any = None

    def __call__(self, texts: Sequence[str], template: str = "{}") -> Tensor:
        """Token numbers int64 (len(texts), context) of texts put in a template; one that is too long is cut off.

        Raises:
            InputError: a text that by itself does not fit, or no vocabulary.
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
            return [1 + zlib.crc32(word.encode()) % (self.start - 1) for word in re.findall(r"\w+", text.lower())]
        if self._bpe is None:
            self._bpe = self._load()
        return self._bpe(text, add_special_tokens=False).input_ids

    def _load(self) -> Any:
        from transformers import CLIPTokenizer

        if self.folder is None or not (Path(self.folder) / "vocab.json").is_file():
            raise InputError(
                f"{self.folder}: no CLIP vocabulary; text needs vocab.json and merges.txt of a CLIP model (on the "
                "Hugging Face hub, e.g. openai/clip-vit-base-patch32) in a folder: give its path as tokenizer"
            )
        return CLIPTokenizer.from_pretrained(self.folder)
