#!/usr/bin/env python3
"""Paint the demo data set: small things on the ground, in PASCAL VOC layout.

    python data/scripts/make_demo_data.py --out data/demo

Four classes (button, ladybird, leaf, starfish) lie among look-alikes on sand, wood, moss, stone and linen,
under one lamp. Nothing is downloaded. Picture k of a split is a function of the seed, the split and k alone
(another version of OpenCV or NumPy may round a few pixels the other way).
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'tools'))
import _init_paths  # noqa: F401

import cv2
import demo_things
import numpy as np
from demo_things import CLASSES, DISTRACTORS, Brush, hue, noise

import whole_file
from _command_line import run
from whole_file.picture import write_picture

SUPERSAMPLE = 2  # pictures are painted at twice their size, then averaged down
MIN_VISIBLE = 0.55  # an object of which less can be seen is not placed


class Object(NamedTuple):
    """An object of a picture: its class and its visible box, 0-based inclusive pixels."""

    name: str
    box: tuple[int, int, int, int]
    truncated: bool


# ---------------------------------------------------------------- grounds, painted as (h, w, 3) BGR, 0 to 1


def sand(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    ripples = np.sin(noise(rng, shape, 90, 2) * 4 + np.linspace(0, rng.uniform(6, 16), shape[0])[:, None])
    grain = rng.standard_normal(shape, np.float32)
    value = 1 + 0.045 * ripples + 0.05 * noise(rng, shape, 40) + 0.075 * grain
    return hue(rng, (30, 42), (0.25, 0.42), (0.62, 0.82)) * value[..., None]


def wood(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    height, width = shape
    across = np.arange(height, dtype=np.float32)[:, None] + np.zeros((1, width), np.float32)
    long_noise = cv2.resize(noise(rng, (height, max(width // 12, 4)), 18, 3), (width, height))
    rings = np.sin(across / rng.uniform(5, 9) + 5 * long_noise)
    board = height / rng.uniform(1.6, 3.2)
    index = ((across + rng.uniform(0, board)) // board).astype(int)
    tone = rng.uniform(0.86, 1.1, index.max() + 1).astype(np.float32)[index]
    joint = np.abs(np.diff(index, axis=0, prepend=index[:1])) > 0
    joint = cv2.GaussianBlur(joint.astype(np.float32), (0, 0), 1.4) * 2.2
    value = tone * (1 + 0.07 * rings + 0.1 * long_noise + 0.02 * rng.standard_normal(shape, np.float32))
    value = value * (1 - 0.6 * np.clip(joint, 0, 1))
    ground = hue(rng, (20, 34), (0.35, 0.6), (0.42, 0.7)) * value[..., None]
    return ground if rng.random() < 0.5 else np.ascontiguousarray(cv2.resize(cv2.transpose(ground), (width, height)))


def moss(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    height, width = shape
    strands = cv2.resize(rng.standard_normal((height // 2, width // 5), np.float32), (width, height))
    tufts = noise(rng, shape, 14, 4) + 0.5 * strands + 0.25 * rng.standard_normal(shape, np.float32)
    patches = noise(rng, shape, 70, 2)
    ground = hue(rng, (60, 95), (0.3, 0.55), (0.22, 0.4)) * (1 + 0.28 * tufts + 0.12 * patches)[..., None]
    earth = hue(rng, (22, 36), (0.3, 0.5), (0.25, 0.4)) * (1 + 0.2 * tufts)[..., None]
    return demo_things.mix(ground, earth, np.clip(patches * 1.6 - 0.2, 0, 1))


def stone(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    rough = noise(rng, shape, 60, 6)
    gy, gx = np.gradient(cv2.GaussianBlur(rough, (0, 0), 1.0))
    cracks = np.clip(1 - np.abs(noise(rng, shape, 110, 3)) * 26, 0, 1)
    value = 1 + 0.1 * rough + 0.9 * (gx + gy) - 0.32 * cracks + 0.03 * rng.standard_normal(shape, np.float32)
    return hue(rng, (15, 230), (0.02, 0.14), (0.4, 0.68)) * value[..., None]


def linen(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    height, width = shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    bend = noise(rng, shape, 100, 2) * 3
    warp = 2 * np.pi / rng.uniform(4.5, 7)
    threads = np.sin((x + bend) * warp) * np.sin((y + bend) * warp)
    folds = noise(rng, shape, 150, 2)
    value = 1 + 0.07 * threads + 0.1 * folds + 0.025 * rng.standard_normal(shape, np.float32)
    colour = hue(rng, (0, 360), (0.04, 0.32), (0.5, 0.85))
    if rng.random() < 0.4:  # a checked cloth
        step = rng.uniform(40, 80)
        check = ((x + bend) % step < step / 2).astype(np.float32) + ((y + bend) % step < step / 2)
        value = value * (1 - 0.1 * check)
    return colour * value[..., None]


GROUNDS = (sand, wood, moss, stone, linen)


# ---------------------------------------------------------------- a picture


class Scene:
    """A picture while it is painted: colours, and which object each pixel shows (-1: none)."""

    def __init__(self, rng: np.random.Generator, width: int, height: int):
        self.rng = rng
        self.shape = (height * SUPERSAMPLE, width * SUPERSAMPLE)
        self.colour = GROUNDS[rng.integers(len(GROUNDS))](rng, self.shape).astype(np.float32)
        self.owner = np.full(self.shape, -1, np.int16)
        self.areas: list[int] = []  # pixels of each object, were it alone
        self.visible: list[int] = []  # ... and those to be seen so far
        turn, rise = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.05)
        self.light = np.array([np.cos(turn) * np.cos(rise), np.sin(turn) * np.cos(rise), np.sin(rise)], np.float32)

    def place(self, paint, diameter: float, is_object: bool) -> bool:
        """Put a thing of this diameter (in pixels of the picture) somewhere; False if there is no room."""
        rng = self.rng
        size = diameter * SUPERSAMPLE
        height, width = self.shape
        for _ in range(8):
            # A thing may hang over the border by a quarter of its size.
            x, y = (
                rng.uniform(0.25 * size, width - 0.25 * size),
                rng.uniform(0.25 * size, height - 0.25 * size),
            )
            patch, cover = self._painted(paint, size)
            reach = cover.shape[0] // 2
            left, top = int(x) - reach, int(y) - reach
            x1, y1 = max(left, 0), max(top, 0)
            x2, y2 = min(left + cover.shape[1], width), min(top + cover.shape[0], height)
            region = slice(y1, y2), slice(x1, x2)
            part = slice(y1 - top, y2 - top), slice(x1 - left, x2 - left)
            solid = cover[part] > 0.5
            area = np.count_nonzero(cover > 0.5)
            hidden = np.bincount(self.owner[region][solid] + 1, minlength=len(self.areas) + 1)[1:]
            if solid.sum() < 0.75 * area or any(
                v - h < MIN_VISIBLE * a for v, h, a in zip(self.visible, hidden, self.areas, strict=True)
            ):
                continue
            self._cast_shadow(cover, left, top, size)
            self.colour[region] = demo_things.mix(self.colour[region], patch[part], cover[part])
            self.owner[region][solid] = len(self.areas) if is_object else -1
            self.visible = [v - h for v, h in zip(self.visible, hidden, strict=True)]
            if is_object:
                self.areas.append(area)
                self.visible.append(np.count_nonzero(solid))
            return True
        return False

    def _painted(self, paint, size: float) -> tuple[np.ndarray, np.ndarray]:
        rng = self.rng
        reach = int(size * 0.62) + 2
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32) / (size / 2)
        turn, tilt, lean = rng.uniform(0, 2 * np.pi), rng.uniform(0.78, 1.0), rng.uniform(0, np.pi)
        # Seen at a slant: squeezed along one direction of the picture. (The math functions return plain
        # floats, which leave the arrays float32 in every NumPy.)
        c, s = math.cos(lean), math.sin(lean)
        along, off = x * c + y * s, (y * c - x * s) / tilt
        x, y = along * c - off * s, along * s + off * c
        c, s = math.cos(turn), math.sin(turn)
        light = np.array(
            [c * self.light[0] + s * self.light[1], -s * self.light[0] + c * self.light[1], self.light[2]],
            np.float32,
        )
        colour, cover = paint(Brush(x * c + y * s, -x * s + y * c, light, rng, 2 / size))
        return np.clip(colour, 0, 1).astype(np.float32), cover.astype(np.float32)

    def _cast_shadow(self, cover: np.ndarray, left: int, top: int, size: float) -> None:
        height, width = self.shape
        reach = 0.1 * size
        pad = int(0.2 * size) + 2
        shadow = cv2.copyMakeBorder(cover, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
        shadow = cv2.GaussianBlur(shadow, (0, 0), 0.05 * size + 0.6)
        left = left - pad - int(self.light[0] * reach / self.light[2])
        top = top - pad - int(self.light[1] * reach / self.light[2])
        x1, y1 = max(left, 0), max(top, 0)
        x2, y2 = min(left + shadow.shape[1], width), min(top + shadow.shape[0], height)
        self.colour[y1:y2, x1:x2] *= (1 - 0.55 * shadow[y1 - top : y2 - top, x1 - left : x2 - left])[..., None]

    def scatter_blades(self, count: int) -> None:
        """Grass and twigs: thin curves that lie over whatever is there."""
        rng = self.rng
        height, width = self.shape
        shade = 0.55 * np.array(cv2.mean(self.colour)[:3])
        for _ in range(count):
            start = rng.uniform(0, 1, 2) * (width, height)
            turn, length, bend = rng.uniform(0, 2 * np.pi), rng.uniform(30, 130), rng.normal(0, 0.5)
            t = np.linspace(0, 1, 14)
            angle = turn + bend * t
            points = start + np.cumsum(np.stack([np.cos(angle), np.sin(angle)], 1) * length / 14, axis=0)
            if rng.random() < 0.6:
                colour = hue(rng, (60, 110), (0.3, 0.6), (0.3, 0.6))
            else:
                colour = hue(rng, (20, 40), (0.2, 0.5), (0.22, 0.55))
            thick = int(rng.integers(1, 4))
            for shift, tone in ((2, shade), (0, colour)):
                line = np.rint((points + shift * np.sign(-self.light[:2])) * 4).astype(np.int32)
                cv2.polylines(self.colour, [line], False, tone.tolist(), thick, cv2.LINE_AA, shift=2)

    def objects(self, names: Sequence[str]) -> list[Object]:
        """The objects as they are seen, each with the box of its visible pixels."""
        found = []
        for k, name in enumerate(names):
            ys, xs = np.nonzero(self.owner == k)
            # A pixel of the picture shows an object if a good part of it does, hence the inward rounding.
            x1, y1 = (int(xs.min()) + 1) // SUPERSAMPLE, (int(ys.min()) + 1) // SUPERSAMPLE
            x2, y2 = (int(xs.max()) - 1) // SUPERSAMPLE, (int(ys.max()) - 1) // SUPERSAMPLE
            found.append(Object(name, (x1, y1, x2, y2), len(ys) < 0.97 * self.areas[k]))
        return found

    def photograph(self) -> np.ndarray:
        """The finished picture: uint8 BGR at its own size, lit unevenly, a little blurred, with grain."""
        rng = self.rng
        height, width = self.shape[0] // SUPERSAMPLE, self.shape[1] // SUPERSAMPLE
        picture = cv2.resize(self.colour, (width, height), interpolation=cv2.INTER_AREA)
        y, x = np.mgrid[:height, :width].astype(np.float32)
        x, y = x / width - 0.5, y / height - 0.5
        lamp = 1 + rng.uniform(0.1, 0.45) * (x * self.light[0] + y * self.light[1])
        corner = 1 - rng.uniform(0.1, 0.5) * (x**2 + y**2)
        cast = 1 + rng.normal(0, 0.035, 3) + np.array([-0.03, 0, 0.03]) * rng.normal(0.3, 1)
        picture *= (lamp * corner * rng.uniform(1.0, 1.3))[..., None] * cast.astype(np.float32)
        if rng.random() < 0.5:
            picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 0.75))
        grain = rng.standard_normal(picture.shape, np.float32)
        picture = picture + rng.uniform(0.004, 0.02) * grain
        return np.clip(np.clip(picture, 0, 1) * 255 + 0.5, 0, 255).astype(np.uint8)


def paint_picture(seed: Sequence[int]) -> tuple[np.ndarray, list[Object]]:
    """A picture, (H, W, 3) uint8 BGR with sides of 156 to 240 pixels, and its one to five objects."""
    rng = np.random.default_rng(seed)
    width, height = int(rng.integers(208, 241)), int(rng.integers(156, 181))
    if rng.random() < 0.2:
        width, height = height, width
    scene = Scene(rng, width, height)
    for _ in range(rng.integers(2, 9)):
        scene.place(demo_things.pebble, rng.uniform(5, 18), False)
    scene.scatter_blades(int(rng.integers(0, 7)))

    wanted = [(name, True) for name in rng.choice(list(CLASSES), rng.integers(1, 6))]
    wanted += [(paint, False) for paint in rng.choice(len(DISTRACTORS), rng.integers(2, 7))]
    names = []
    for k in rng.permutation(len(wanted)):
        thing, is_object = wanted[k]
        diameter = float(np.exp(rng.uniform(np.log(26), np.log(82))))
        paint = CLASSES[thing] if is_object else DISTRACTORS[thing]
        if scene.place(paint, diameter, is_object) and is_object:
            names.append(str(thing))
    if not names:  # no room at all is very unlikely; begin anew
        return paint_picture([*seed, 1])
    scene.scatter_blades(int(rng.integers(0, 3)))
    return scene.photograph(), scene.objects(names)


# ---------------------------------------------------------------- the data set


def annotation_xml(file_name: str, width: int, height: int, objects: Sequence[Object]) -> str:
    """The annotation of a picture as VOC writes it: 1-based pixels."""
    lines = [
        '<annotation>',
        f'  <filename>{escape(file_name)}</filename>',
        f'  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>',
    ]
    for name, (x1, y1, x2, y2), truncated in objects:
        lines += [
            '  <object>',
            f'    <name>{escape(name)}</name><truncated>{int(truncated)}</truncated><difficult>0</difficult>',
            f'    <bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>'
            f'<xmax>{x2 + 1}</xmax><ymax>{y2 + 1}</ymax></bndbox>',
            '  </object>',
        ]
    return '\n'.join([*lines, '</annotation>', ''])


def write_split(out: str, split: str, count: int, seed: int) -> None:
    """Paint and write the pictures of a split, then its image set."""
    ids = []
    for k in range(count):
        rng_seed = [seed, sum(split.encode()), k]
        picture, objects = paint_picture(rng_seed)
        image_id = f'{split}_{k:04d}'
        quality = int(np.random.default_rng([*rng_seed, 2]).integers(82, 96))
        path = os.path.join(out, 'JPEGImages', image_id + '.jpg')
        write_picture(path, picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        annotation = annotation_xml(image_id + '.jpg', picture.shape[1], picture.shape[0], objects)
        whole_file.write_text(os.path.join(out, 'Annotations', image_id + '.xml'), annotation)
        ids.append(image_id)
    text = ''.join(image_id + '\n' for image_id in ids)
    whole_file.write_text(os.path.join(out, 'ImageSets', 'Main', split + '.txt'), text)


def holds(path: str, text: str) -> bool:
    """Whether there is such a file with just this content."""
    if not os.path.isfile(path):
        return False
    with open(path, encoding='utf-8', errors='replace') as f:
        return f.read() == text


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--out', default='data/demo', help='folder to write; must be new, empty, or a demo set')
    parser.add_argument('--train', type=int, default=240, help='pictures to train on')
    parser.add_argument('--test', type=int, default=120, help='pictures to test on')
    parser.add_argument('--seed', type=int, default=3)
    args = parser.parse_args(argv)
    if min(args.train, args.test) < 1 or args.seed < 0:
        parser.error(f'--train {args.train} --test {args.test} --seed {args.seed}: all 1 or more, the seed 0 or more')
    names = '\n'.join(CLASSES) + '\n'
    listed = os.path.join(args.out, 'classes.txt')
    if os.path.isdir(args.out) and os.listdir(args.out) and not holds(listed, names):
        print(f'make_demo_data: {args.out} holds something else; give an empty or new folder', file=sys.stderr)
        return 1
    for folder in ('Annotations', 'JPEGImages', os.path.join('ImageSets', 'Main')):
        os.makedirs(os.path.join(args.out, folder), exist_ok=True)
    whole_file.write_text(listed, names)
    for split, count in (('train', args.train), ('test', args.test)):
        write_split(args.out, split, count, args.seed)
    print(f'wrote {args.train} + {args.test} pictures to {args.out}')
    print(f'next: python tools/make_proposals.py --imdb folder:{args.out}:train+folder:{args.out}:test')
    return 0


if __name__ == '__main__':
    run(main)
