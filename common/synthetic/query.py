"""Query images: a target seen somewhere else."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from torch import Tensor

from common.synthetic.actors import Actor, Camera
from common.synthetic.motion import Wave, any_angle, uniform
from common.synthetic.scene import Scene
from common.synthetic.textures import background_texture


def draw_query(scene: Scene, target: int, size: tuple[int, int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A still of one target before a new background, in a new place, size and rotation.

    Returns:
        uint8 RGB (H, W, 3) and its mask, bool (H, W).
    """
    actor = next(a for a in scene.actors if isinstance(a, Actor) and a.target == target)
    x, y = (Wave(uniform(rng, -0.4, 0.4)) for _ in range(2))
    diameter, angle = Wave(math.log(rng.uniform(0.3, 0.55))), Wave(any_angle(rng))
    still = replace(actor, x=x, y=y, size=diameter, angle=angle, absences=(), change=None)
    camera = Camera(Wave(), Wave(), Wave(), Wave())
    picture = Scene(background_texture(rng), [still], camera, Wave(uniform(rng, 0.8, 1.05)))
    moment = int(rng.integers(0, 1000))  # the outline deforms with time, so this is a new pose too
    layers = picture.layers(moment, size)
    return picture.paint(layers, moment, size), picture.labels(layers, moment, size) == target
