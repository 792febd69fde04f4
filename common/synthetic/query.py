"""Query images: external images of a target."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from torch import Tensor

from common.synthetic.actors import Actor, Camera
from common.synthetic.motion import Wave, random_angle, uniform
from common.synthetic.scene import Scene
from common.synthetic.textures import background_texture


def draw_query(scene: Scene, target: int, size: tuple[int, int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Render one target on a new background, at a new position, size and rotation.

    Args:
        scene: scene that contains the target.
        target: id of the target.
        size: (H, W) in pixels.
        rng: source of randomness.

    Returns:
        uint8 RGB (H, W, 3) and the target's mask, bool (H, W).
    """
    actor = next(a for a in scene.actors if isinstance(a, Actor) and a.target == target)
    x, y = (Wave(uniform(rng, -0.4, 0.4)) for _ in range(2))
    diameter, angle = Wave(math.log(rng.uniform(0.3, 0.55))), Wave(random_angle(rng))
    still = replace(actor, x=x, y=y, size=diameter, angle=angle, absences=(), change=None)
    camera = Camera(Wave(), Wave(), Wave(), Wave())
    picture = Scene(background_texture(rng), [still], camera, Wave(uniform(rng, 0.8, 1.05)))
    moment = int(rng.integers(0, 1000))  # a random time, since the outline deforms with time
    layers = picture.layers(moment, size)
    return picture.paint(layers, moment, size), picture.labels(layers, moment, size) == target
