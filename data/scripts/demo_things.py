"""Painting of the small things in the demo pictures: four classes, and distractors that resemble them.

A thing is a function of a `Brush` (its local coordinates, its light, its random numbers) that returns a
colour and a coverage for each pixel. It is given in its own frame, -1 to 1, whatever its size and turn in the
picture. Colours are BGR float32, 0 to 1.

Each distractor shares the colour or the outline of a class, never all of it: what tells them apart is the
texture.
"""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import cv2
import numpy as np


class Brush(NamedTuple):
    """What a thing is painted with."""

    u: np.ndarray
    """(h, w) along the thing, -1 to 1 from end to end."""
    v: np.ndarray
    """(h, w) across it."""
    light: np.ndarray
    """(3,) unit vector towards the light, in the thing's frame."""
    rng: np.random.Generator
    pixel: float
    """Size of a pixel in the thing's frame: edges are made soft over it."""


Paint = tuple[np.ndarray, np.ndarray]


# ---------------------------------------------------------------- colour, noise, light


def hue(rng: np.random.Generator, h: tuple, s: tuple, v: tuple) -> np.ndarray:
    """A BGR colour with hue (in degrees), saturation and value drawn from ranges."""
    rgb = colorsys.hsv_to_rgb(rng.uniform(*h) / 360 % 1, rng.uniform(*s), rng.uniform(*v))
    return np.array(rgb[::-1], np.float32)


def noise(rng: np.random.Generator, shape: tuple[int, int], scale: float, octaves: int = 3) -> np.ndarray:
    """Smooth noise around 0, roughly -1 to 1; `scale` is the size of its largest blobs in pixels."""
    height, width = shape
    total = np.zeros(shape, np.float32)
    for k in range(octaves):
        step = max(scale / 2**k, 1.0)
        grid = rng.standard_normal((int(height / step) + 3, int(width / step) + 3), np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.5**k
    return total * 0.6


def soft(inside: np.ndarray, pixel: float) -> np.ndarray:
    """0 where `inside` is negative and 1 where it is positive, with an edge about two pixels wide."""
    return np.clip(inside / (2 * pixel) + 0.5, 0, 1)


def shade(colour: np.ndarray, normal: tuple, light: np.ndarray, gloss: float = 0.0, power: float = 20) -> np.ndarray:
    """Lambert's shading and Blinn's highlight of a surface whose colour is (3,) or (h, w, 3)."""
    nx, ny, nz = normal
    length = np.sqrt(nx**2 + ny**2 + nz**2) + 1e-6
    diffuse = np.clip((nx * light[0] + ny * light[1] + nz * light[2]) / length, 0, 1)
    half = light + (0, 0, 1)
    half = (half / np.linalg.norm(half)).astype(np.float32)
    shine = np.clip((nx * half[0] + ny * half[1] + nz * half[2]) / length, 0, 1) ** power
    return colour * (0.36 + 0.72 * diffuse)[..., None] + gloss * shine[..., None]


def bumps(height: np.ndarray, pixel: float) -> tuple:
    """Normals of a height field given in the thing's frame."""
    gy, gx = np.gradient(height, pixel)
    return -gx, -gy, np.ones_like(height)


def mix(below: np.ndarray, above: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return below + (above - below) * amount[..., None]


def dome(b: Brush, long: float = 1.0, wide: float = 0.8, flat: float = 1.0) -> tuple[np.ndarray, tuple]:
    """Coverage and normals of an ellipsoid seen from above."""
    r2 = (b.u / long) ** 2 + (b.v / wide) ** 2
    inside = (1 - np.sqrt(r2)) * min(long, wide)
    z = np.sqrt(np.clip(1 - r2, 0.02, 1)) * flat
    return soft(inside, b.pixel), (b.u / long, b.v / wide, z)


# ---------------------------------------------------------------- the four classes


def ladybird(b: Brush) -> Paint:
    """A red dome with black spots, a seam, and a black head."""
    colour = hue(b.rng, (-6, 14), (0.82, 0.97), (0.66, 0.92))
    cover, normal = dome(b, 1.0, 0.8)
    spots = np.zeros_like(b.u)
    for su, sv, size in (
        (0.38, 0.0, 0.17),
        (0.22, 0.44, 0.16),
        (-0.22, 0.3, 0.18),
        (-0.6, 0.36, 0.13),
        (-0.3, 0.62, 0.1),
    ):
        su, sv, size = su + b.rng.normal(0, 0.02), sv + b.rng.normal(0, 0.02), size * b.rng.uniform(0.85, 1.2)
        for side in (1, -1):
            spots = np.maximum(spots, soft(size - np.hypot(b.u - su, b.v - side * sv), b.pixel))
    seam = soft(0.025 - np.abs(b.v), b.pixel) * (b.u < 0.5)
    head = soft(b.u - 0.56 - 0.12 * b.v**2, b.pixel)
    black = np.array([0.05, 0.05, 0.06], np.float32)
    white = soft(0.1 - np.hypot(b.u - 0.7, np.abs(b.v) - 0.3), b.pixel)
    skin = mix(np.broadcast_to(colour, (*b.u.shape, 3)), black, np.maximum.reduce([spots, seam, head]))
    skin = mix(skin, np.array([0.85, 0.9, 0.92], np.float32), white)
    return shade(skin, normal, b.light, gloss=0.6, power=40), cover


def leaf_outline(b: Brush, wide: float, jagged: float) -> tuple[np.ndarray, np.ndarray]:
    """Coverage of a leaf without its stalk, and its bent middle line's distance (signed)."""
    across = b.v - 0.16 * (b.u**2 - 0.4)
    half = wide * np.clip(1 - np.abs(b.u) ** 1.9, 0, 1) * (1 - 0.28 * b.u)
    half = half * (1 + jagged * (((b.u * 9) % 1) - 0.5))
    return soft(half - np.abs(across), b.pixel), across


def leaf(b: Brush) -> Paint:
    """A pointed green blade with a midrib and side veins."""
    colour = hue(b.rng, (72, 118), (0.5, 0.85), (0.42, 0.72))
    wide = b.rng.uniform(0.36, 0.5)
    cover, across = leaf_outline(b, wide, b.rng.uniform(0, 0.16))
    side = (b.u * 5.2 - np.abs(across) * 4.2) % 1.0
    vein = np.clip(1 - np.abs(side - 0.5) * 12, 0, 1) * np.clip(1.4 - np.abs(across) / wide, 0, 1)
    rib = np.clip(1.5 - np.abs(across) / (0.018 + 0.012 * (1 - b.u)), 0, 1)
    lines = np.maximum(vein * 0.75, rib)
    body = np.broadcast_to(colour, (*b.u.shape, 3)) * (1 + 0.14 * noise(b.rng, b.u.shape, 14))[..., None]
    body = mix(body, np.minimum(colour * 1.5 + 0.14, 1), lines)
    relief = -0.5 * across**2 / wide + 0.05 * np.cos(2 * np.pi * side) - 0.05 * rib
    stalk = soft(0.03 - np.abs(across), b.pixel) * (b.u < -0.9) * (b.u > -1.2)
    return shade(body, bumps(relief, b.pixel), b.light, gloss=0.16, power=14), np.maximum(cover, stalk)


def star(b: Brush, points: int, waist: float, sharp: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coverage of a star; its distance from the nearest arm's axis, and along that axis."""
    angle = np.arctan2(b.v, b.u)
    radius = np.hypot(b.u, b.v)
    sector = np.abs((angle * points / (2 * np.pi) + 0.5) % 1 - 0.5) * 2 * np.pi / points
    edge = waist + (1 - waist) * np.clip(1 - sector * points / np.pi, 0, 1) ** sharp
    return soft((edge - radius) * 0.7, b.pixel), radius * np.sin(sector), radius * np.cos(sector)


def starfish(b: Brush) -> Paint:
    """Five tapering orange arms with rows of pale knobs."""
    colour = hue(b.rng, (14, 30), (0.72, 0.92), (0.74, 0.95))
    cover, off, along = star(b, 5, 0.33, 1.35)
    relief = 0.34 * np.clip(1 - off / 0.3, 0, 1) * np.clip(1.25 - along, 0, 1)
    knob = np.clip(1.2 - np.hypot(((along * 6.5) % 1 - 0.5) / 0.34, off / 0.052), 0, 1)
    fringe = np.clip(1.1 - np.hypot(((along * 7.5) % 1 - 0.5) / 0.3, (off - 0.15) / 0.04), 0, 1) * (along > 0.25)
    dots = np.maximum(knob, 0.7 * fringe) * (along < 0.93)
    body = np.broadcast_to(colour, (*b.u.shape, 3)) * (1 + 0.16 * noise(b.rng, b.u.shape, 8))[..., None]
    body = mix(body, np.minimum(colour + 0.42, 1), dots)
    return shade(body, bumps(relief + 0.05 * dots, b.pixel), b.light, gloss=0.08, power=10), cover


def disc(b: Brush, rim: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coverage, radius and height of a disc with a raised rim."""
    radius = np.hypot(b.u, b.v)
    height = 0.13 * np.exp(-(((radius - 1 + rim) / (0.55 * rim)) ** 2)) - 0.25 * np.clip(radius - 0.9, 0, None)
    return soft(1 - radius, b.pixel), radius, height


def button_colour(rng: np.random.Generator) -> np.ndarray:
    return hue(rng, (190, 290), (0.35, 0.75), (0.5, 0.9))


def button(b: Brush) -> Paint:
    """A blue or violet disc with a rim and four (or two) holes."""
    colour = button_colour(b.rng)
    cover, _, height = disc(b, 0.24)
    holes = np.zeros_like(b.u)
    spread = b.rng.uniform(0.24, 0.3)
    four = b.rng.random() < 0.75
    for hu, hv in ((1, 0), (-1, 0), (0, 1), (0, -1)) if four else ((1, 0), (-1, 0)):
        holes = np.maximum(holes, soft(0.135 - np.hypot(b.u - hu * spread, b.v - hv * spread), b.pixel))
    body = np.broadcast_to(colour, (*b.u.shape, 3)) * (1 + 0.05 * noise(b.rng, b.u.shape, 20))[..., None]
    body = shade(body, bumps(height - 0.08 * holes, b.pixel), b.light, gloss=0.3, power=30)
    return mix(body, colour * 0.16, holes), cover


# ---------------------------------------------------------------- distractors


def berry(b: Brush) -> Paint:
    """Ladybird's red on a smooth ball."""
    cover, normal = dome(b, 0.86, 0.86)
    body = np.broadcast_to(hue(b.rng, (-6, 12), (0.8, 0.95), (0.6, 0.9)), (*b.u.shape, 3))
    body = body * (1 - 0.75 * soft(0.14 - np.hypot(b.u - 0.45, b.v), 3 * b.pixel))[..., None]
    return shade(body, normal, b.light, gloss=0.55, power=40), cover


def striped_beetle(b: Brush) -> Paint:
    """Ladybird's red and outline, but bands instead of spots and no black head."""
    cover, normal = dome(b, 1.0, 0.76)
    bands = np.clip(np.sin(b.u * b.rng.uniform(10, 13) + 1.5 * b.v**2) * 4 - 1, 0, 1)
    colour = hue(b.rng, (-6, 14), (0.8, 0.95), (0.62, 0.9))
    body = mix(np.broadcast_to(colour, (*b.u.shape, 3)), np.array([0.08, 0.07, 0.08], np.float32), bands)
    return shade(body, normal, b.light, gloss=0.5, power=40), cover


def speckled_egg(b: Brush) -> Paint:
    """Ladybird's outline and dark spots, but on pale grey or blue, and scattered."""
    cover, normal = dome(b, 1.0, 0.77)
    colour = hue(b.rng, (30, 210), (0.05, 0.22), (0.72, 0.9))
    specks = np.zeros_like(b.u)
    for _ in range(14):
        size = b.rng.uniform(0.05, 0.15)
        specks = np.maximum(
            specks, soft(size - np.hypot(b.u - b.rng.uniform(-1, 1), b.v - b.rng.uniform(-1, 1)), b.pixel)
        )
    body = mix(np.broadcast_to(colour, (*b.u.shape, 3)), colour * 0.25, specks)
    return shade(body, normal, b.light, gloss=0.12), cover


def green_pod(b: Brush) -> Paint:
    """Leaf's green on a smooth rounded pod."""
    cover, normal = dome(b, 1.0, b.rng.uniform(0.36, 0.52))
    body = hue(b.rng, (72, 118), (0.5, 0.85), (0.42, 0.72)) * (1 + 0.06 * noise(b.rng, b.u.shape, 16))[..., None]
    return shade(body, normal, b.light, gloss=0.22, power=18), cover


def seed_husk(b: Brush) -> Paint:
    """Leaf's outline in brown, grooved lengthwise."""
    wide = b.rng.uniform(0.34, 0.46)
    cover, across = leaf_outline(b, wide, 0.0)
    groove = np.cos(across / wide * 16)
    body = hue(b.rng, (18, 38), (0.35, 0.6), (0.42, 0.68)) * (1 + 0.1 * noise(b.rng, b.u.shape, 12))[..., None]
    relief = -0.55 * across**2 / wide + 0.018 * groove
    return shade(body * (1 + 0.1 * groove)[..., None], bumps(relief, b.pixel), b.light, gloss=0.08), cover


def slate_star(b: Brush) -> Paint:
    """Starfish's outline in grey-blue, folded like paper, without knobs."""
    cover, off, along = star(b, 5, 0.36, 1.1)
    body = np.broadcast_to(hue(b.rng, (170, 260), (0.12, 0.4), (0.5, 0.85)), (*b.u.shape, 3))
    relief = 0.4 * np.clip(1 - off / 0.35, 0, 1) * np.clip(1.2 - along, 0, 1)
    return shade(body, bumps(relief, b.pixel), b.light, gloss=0.2), cover


def marigold(b: Brush) -> Paint:
    """Starfish's orange on many round petals."""
    points = int(b.rng.integers(9, 13))
    cover, off, along = star(b, points, 0.74, 0.6)
    colour = hue(b.rng, (14, 32), (0.74, 0.95), (0.74, 0.95))
    body = np.broadcast_to(colour, (*b.u.shape, 3)) * (0.72 + 0.34 * np.clip(along, 0, 1))[..., None]
    heart = soft(0.27 - np.hypot(b.u, b.v), 2 * b.pixel)
    body = mix(body, hue(b.rng, (20, 40), (0.6, 0.8), (0.3, 0.5)), heart)
    relief = 0.2 * np.cos(np.clip(off / 0.2, 0, 1) * np.pi / 2) + 0.05 * noise(b.rng, b.u.shape, 5, 2) * heart
    return shade(body, bumps(relief, b.pixel), b.light, gloss=0.04), cover


def coin(b: Brush) -> Paint:
    """Button's disc and rim in metal, with a relief and no holes."""
    cover, radius, height = disc(b, 0.14)
    colour = hue(b.rng, (26, 48), (0.12, 0.55), (0.5, 0.78))
    relief = 0.035 * noise(b.rng, b.u.shape, 0.5 / b.pixel, 2) * (radius < 0.72)
    return shade(np.broadcast_to(colour, (*b.u.shape, 3)), bumps(height + relief, b.pixel), b.light, 0.4, 16), cover


def bead(b: Brush) -> Paint:
    """Button's colour on a smooth round stone."""
    cover, normal = dome(b, 0.98, 0.9, flat=1.3)
    body = button_colour(b.rng) * (1 + 0.05 * noise(b.rng, b.u.shape, 20))[..., None]
    return shade(body, normal, b.light, gloss=0.35, power=30), cover


def washer(b: Brush) -> Paint:
    """Button's colour and rim, but one wide hole."""
    cover, radius, height = disc(b, 0.24)
    cover = cover * soft(radius - b.rng.uniform(0.36, 0.46), b.pixel)
    return shade(
        np.broadcast_to(button_colour(b.rng), (*b.u.shape, 3)), bumps(height, b.pixel), b.light, 0.3, 30
    ), cover


def pebble(b: Brush) -> Paint:
    """A stone like any other."""
    lumps = 1 + 0.1 * np.sin(3 * np.arctan2(b.v, b.u) + b.rng.uniform(0, 6)) * b.rng.uniform(0.3, 1)
    cover, normal = dome(b._replace(u=b.u * lumps, v=b.v * lumps), 0.95, b.rng.uniform(0.62, 0.85), flat=1.2)
    body = hue(b.rng, (20, 50), (0.03, 0.25), (0.3, 0.75)) * (1 + 0.16 * noise(b.rng, b.u.shape, 9, 4))[..., None]
    return shade(body, normal, b.light, gloss=0.06), cover


CLASSES = {'button': button, 'ladybird': ladybird, 'leaf': leaf, 'starfish': starfish}
DISTRACTORS = (
    berry, striped_beetle, speckled_egg, green_pod, seed_husk, slate_star, marigold, coin, bead,
    washer, pebble,
)  # fmt: skip
