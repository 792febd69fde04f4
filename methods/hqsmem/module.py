"""HQ-SMem as a LightningModule, and with its parts switched off the DeAOT family that it wraps."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from common import optim
from common.checkpoints import weights_file
from common.data.clip import Clip
from common.ema import AveragedWeights
from common.nn.memory_policy import KeepAll, LeastRelevant, MemoryPolicy, Oldest
from common.nn.smart_memory import SmartMemory
from common.segmenter import VideoSegmenter
from common.settings import changed, restore
from methods.hqsmem.deaot.network import DeAOT
from methods.hqsmem.deaot.training import SELF_PROPAGATION_START, clip_losses
from methods.hqsmem.deaot.weights import PUBLISHED, load_start, released_state
from methods.hqsmem.preprocessing import LONG_EDGE
from methods.hqsmem.refinement.dino import DINO, nano_dino
from methods.hqsmem.refinement.gate import Refiner, RefineSettings
from methods.hqsmem.refinement.sam_hq import SAMHQ, nano_sam_hq
from methods.hqsmem.refinement.weights import (
    DINO_HINT,
    NANO_DINO,
    NANO_SAM,
    SAM_HINT,
    load_dino,
    load_sam_hq,
)
from methods.hqsmem.session import Feature, HQSMemSession
from methods.hqsmem.settings import VARIANTS, MemorySettings, Variant, memory_of
from methods.hqsmem.tracker import Tracker

NAMES = {"nano": "DeAOT nano", "r50-deaot-l": "R50_DeAOT-L", "swinb-deaot-l": "Swin_DeAOT"}  # as Table 4 has them
LOSS_WEIGHTS = dict.fromkeys(("ce", "jaccard", "reference_ce", "reference_jaccard"), 0.5)
UNDECAYED = r"relative_position_bias_table|(^|\.)decoder\.predict\."
CAPACITY = 10  # frames of a bank, references included


class HQSMem(VideoSegmenter):
    """HQ-SMem (arXiv 2507.18921): smart memory and SAM-HQ refinement verified by DINO, around DeAOT.

    Without both it is the base tracker: DeAOT with all that it stored, with ``memory.capacity`` RMem's bank without its
    bonus, with ``memory.per_object`` DMAOT.

    Args:
        variant: base tracker: ``deaot-t``, ``-s``, ``-b``, ``-l``, ``r50-deaot-l``, ``swinb-deaot-l``, our ``nano``.
        temporal: RMem's temporal positional embedding, for VOTSt.
        memory: rhythm and size; default that of the variant, with ``smem`` at most 10 frames.
        smem: smart memory (eq. 3 to 7); the first of the two parts.
        policy: its settings.
        feature: what relevance is measured on: ``lstt_kv``, ``encoder`` or ``dino``.
        hqtf: high-quality teacher forcing (eq. 8 to 10); the second.
        refinement: its settings.
        sam_hq: ``sam_hq_vit_{b,l,h}.pth`` or a transformers folder; our ``nano``; ``random`` for an untrained nano.
        dino: DINO's or DINOv2's file or folder; ``nano``, ``random``.
        dino_side: short side of the frame for DINO, in pixels; default 480 (nano 128).
        overlap: answer accepted masks as they are, as VOTS scores them; else no two masks share a pixel.
        long_edge: longer frames are shrunk to it for the base tracker, in pixels; null = never.
        scale: of the frame after that (1.3 for YouTube-VOS).
        start: what training starts from: an ImageNet file of the encoder, or a checkpoint, which may lack ``temporal``.
        encoder_lr: factor on the encoder's learning rate above its lowest.
        training_gap: frames of a training clip between two writes to the long-term memory, where the variant's memory
            takes any.
        kwargs: see ``VideoSegmenter``; ``weights`` are the base tracker's.

    Raises:
        InputError: settings that do not fit each other, or weights that are not there or do not fit.
    """

    published_weights = PUBLISHED
    start_files: ClassVar[dict[str, str | None]] = {"start": None}
    decay = "poly"
    network: DeAOT

    def __init__(
        self,
        variant: Variant = "nano",
        temporal: bool = False,
        memory: MemorySettings | None = None,
        smem: bool = True,
        policy: SmartMemory | None = None,
        feature: Feature = "lstt_kv",
        hqtf: bool = True,
        refinement: RefineSettings | None = None,
        sam_hq: str = "nano",
        dino: str = "nano",
        dino_side: int | None = None,
        overlap: bool = False,
        long_edge: int | None = LONG_EDGE,
        scale: float = 1.0,
        start: str | None = None,
        encoder_lr: float = 0.1,
        training_gap: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.network = DeAOT(replace(VARIANTS[variant], temporal=temporal))
        self.memory = restore(MemorySettings, memory) or _default_memory(variant, smem)
        self.policy, self.refinement = restore(SmartMemory, policy), restore(RefineSettings, refinement)
        self.smem, self.hqtf, self.feature, self.overlap = smem, hqtf, feature, overlap
        self.long_edge, self.scale = long_edge, scale
        self.loss_weights = LOSS_WEIGHTS | self.loss_weights
        self.encoder_lr, self.training_gap = encoder_lr, training_gap
        gated = hqtf and (self.refinement is None or self.refinement.threshold is not None)
        self.sources = {"sam_hq": sam_hq if hqtf else None, "dino": dino if gated or feature == "dino" else None}
        self.dino_side = dino_side or (128 if dino in ("nano", "random") else 480)
        self._borrowed: list[tuple[Refiner | None, DINO | None]] = []  # a list, so that no checkpoint holds them
        self.method_name, self.variant = self._row(variant)
        if start is not None:
            load_start(self.network, start)
        self.load_weights()

    def architecture(self) -> dict[str, Any]:
        """Return the settings of the base tracker's network."""
        dropped = ("drop_path", "dropout")  # of training only
        return {name: value for name, value in asdict(self.network.settings).items() if name not in dropped}

    def from_published(self, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
        """Return DeAOT's or RMem's weights under the network's names."""
        return released_state(self.network, state, path)

    def session(self, length: int | None = None) -> HQSMemSession:
        """A session with this module's settings; ``length`` sets the gap between memory updates where it is to."""
        tracker = Tracker(self.network, self.memory.at(length), self._memory_policy(), self.long_edge, self.scale)
        refiner, dino = self._load()
        return HQSMemSession(tracker, refiner, self.feature, dino, self.overlap)

    def networks(self) -> dict[str, nn.Module]:
        """Return all modules by name, SAM-HQ and DINO included, as far as they are used."""
        parts = dict(zip(("refiner", "dino"), self._load(), strict=True))
        return super().networks() | {
            f"{part}.{name}": module
            for part, network in parts.items()
            if network is not None
            for name, module in network.named_modules()
        }

    @property
    def borrowed_files(self) -> tuple[Path, ...]:
        """Of SAM-HQ and DINO, as far as they are used."""
        named = [(source, nano) for source, nano in zip(self.sources.values(), (NANO_SAM, NANO_DINO), strict=True)]
        return tuple(
            weights_file(_path(source, nano), hint)
            for (source, nano), hint in zip(named, (SAM_HINT, DINO_HINT), strict=True)
            if source is not None and source != "random"
        )

    # Training: the base tracker's.

    def losses(self, clip: Clip) -> dict[str, Tensor]:
        """Bootstrapped cross-entropy and soft Jaccard; see ``clip_losses``."""
        progress = self.trainer.global_step / self.total_steps if self._trainer else 0.0
        return clip_losses(self.network, clip, progress, None if self.memory.gap is None else self.training_gap)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return groups for the encoder, the ID bank and the rest.

        The encoder's rate above the lowest is scaled by ``encoder_lr``; the ID bank is frozen from
        ``training.SELF_PROPAGATION_START`` on. Biases, norms, the tables of relative positions and the layer that makes
        the logits do not decay.
        """
        options = {"encoder": {"rate_scale": self.encoder_lr}, "id_bank": {"frozen_from": SELF_PROPAGATION_START}}
        groups = optim.parameter_groups(
            self.network, self.lr, self.weight_decay, undecayed=UNDECAYED, part=lambda name: name.split(".")[0]
        )
        return [group | options.get(group["part"], {}) for group in groups]

    def configure_callbacks(self) -> list[L.Callback]:
        """Training validates and saves averaged weights."""
        return [AveragedWeights()] if self.trainer.state.fn == TrainerFn.FITTING else []

    def _memory_policy(self) -> MemoryPolicy:
        if self.smem:
            return self.policy or SmartMemory()
        if self.memory.capacity is None:
            return KeepAll()
        return LeastRelevant() if self.memory.per_object else Oldest()

    def _load(self) -> tuple[Refiner | None, DINO | None]:
        """SAM-HQ and DINO, as far as they are used: read when the first session opens, since training needs neither."""
        if not self._borrowed:
            sam, dino = self.sources["sam_hq"], self.sources["dino"]
            seen = None
            if dino is not None:
                seen = DINO(nano_dino() if dino == "random" else load_dino(_path(dino, NANO_DINO)), self.dino_side)
            refiner = None
            if sam is not None:
                proposes = SAMHQ(nano_sam_hq() if sam == "random" else load_sam_hq(_path(sam, NANO_SAM)))
                refiner = Refiner(proposes, seen, self.refinement or RefineSettings())
            self._borrowed.append((refiner, seen))
        refiner, seen = self._borrowed[0]
        for part in (refiner, seen):
            if part is not None:
                part.to(self.device).eval().requires_grad_(False)
        return refiner, seen

    def _row(self, variant: Variant) -> tuple[str, str]:
        """Method and variant as the paper's tables name them, and the settings that are not the defaults."""
        own = NAMES.get(variant, variant.removeprefix("deaot-").upper().join(("DeAOT-", "")))
        base = f"{'DM_' * self.memory.per_object}{own}{'+TPE' * self.network.settings.temporal}"
        ungated = self.refinement is not None and self.refinement.threshold is None
        settings = changed(self.policy, SmartMemory()) if self.smem else []
        settings += [f"feature={self.feature}"] if self.smem and self.feature != "lstt_kv" else []
        settings += changed(self.refinement, RefineSettings()) if self.hqtf and not ungated else []
        if self.smem and self.hqtf and not ungated:
            return "HQ-SMem", ", ".join([f"base={base}", *settings])
        parts = ["SMem"] * self.smem + ["SAM ungated" if ungated else "HQTF"] * self.hqtf
        return base, ", ".join(["+".join(["", *parts])] * bool(parts) + settings)


def _default_memory(variant: Variant, smem: bool) -> MemorySettings:
    memory = memory_of(variant)
    return replace(memory, capacity=CAPACITY) if smem else memory


def _path(source: str, nano: Path) -> str | Path:
    return nano if source == "nano" else source
