"""What a detector found in photographs and videos, as files of a folder."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

import whole_file
from detection_data.image_file import read_image
from detection_data.video import VideoFile, video_written
from fast_rcnn.detection_formats import CSV_HEADER, coco_results, csv_lines, csv_rows, json_line, plain, voc_xml
from fast_rcnn.detector import Detections
from inspection.draw import draw_detections
from whole_file.picture import write_picture

KINDS = ('pictures', 'video', 'json', 'jsonl', 'csv', 'coco', 'voc')  # tools/demo.py --help says what each is


class Seen(NamedTuple):
    """What was looked at: a photograph, or a frame of a video or camera."""

    source: str
    """Its path, or that of the video."""
    file_name: str
    """What files of it are called, without extension: of a frame with its number behind it."""
    frame: int | None = None
    """Number from 0; None of a photograph."""
    fps: float = 0.0
    """Of the video as it comes, frames left out not counted."""
    seconds: float = 0.0
    pixels: np.ndarray | None = None
    """(H, W, 3), uint8, BGR, of a frame; a photograph is read from its file."""

    @property
    def name(self) -> str:
        """What messages and detections.json call it."""
        return self.source if self.frame is None else f'{self.source}#{self.frame}'

    @property
    def stem(self) -> str:
        """What files of it are called."""
        return self.file_name if self.frame is None else f'{self.file_name}_{self.frame:06d}'


class DetectionFiles(contextlib.ExitStack):
    """Writes what was found to `folder`, in the `kinds` asked for (see KINDS); a context manager.

    `add` each image; the end of the block completes the files, after Ctrl-C too, when what was found until then stays.
    coco_ids: ids of images by file name and of classes by name, to number coco_results.json by; else counted from 1.
    objects: {path: boxes (n, 4)}, the true ones, drawn on pictures too.
    """

    def __init__(
        self,
        folder: str,
        kinds: Collection[str],
        classes: Sequence[str],
        coco_ids: tuple[Mapping[str, int | str], Mapping[str, int | str]] | None = None,
        objects: Mapping[str, np.ndarray] | None = None,
    ):
        super().__init__()
        self._folder, self._kinds, self._classes = folder, kinds, classes
        self._found: dict[str, list[dict]] = {}
        self._given_ids = coco_ids
        self._objects = objects or {}
        self._category_ids: Mapping[str, int | str] = {name: k for k, name in enumerate(classes, start=1)}
        if coco_ids is not None:
            self._category_ids = coco_ids[1]
        self._images: list[dict] = []
        self._results: list[dict] = []
        self._video: VideoFile | None = None
        self._video_of = ''
        self._videos = contextlib.ExitStack()
        os.makedirs(folder, exist_ok=True)
        whole_file.check_place(os.path.join(folder, 'detections.json'))
        if 'jsonl' in kinds:
            self._lines = self._growing('detections.jsonl')
        if 'csv' in kinds:
            self._rows = self._growing('detections.csv')
            self._rows.add(csv_lines([CSV_HEADER]).encode())

    def _growing(self, name: str) -> whole_file.GrowingFile:
        path = os.path.join(self._folder, name)
        whole_file.write(path, b'')
        return self.enter_context(contextlib.closing(whole_file.GrowingFile(path)))

    def add(self, seen: Seen, found: Detections) -> None:
        """One image and what was found in it. Raises OSError; ValueError for annotations that are there already."""
        if 'json' in self._kinds:
            self._found[seen.name] = plain(found)
        if 'jsonl' in self._kinds:
            self._lines.add(json_line(found, seen.source, seen.frame, seen.seconds).encode())
        if 'csv' in self._kinds:
            self._rows.add(csv_lines(csv_rows(found, seen.source, seen.frame)).encode(errors='backslashreplace'))
        if 'coco' in self._kinds:
            self._add_to_coco(seen, found)
        if 'voc' in self._kinds:
            self._write_voc(seen, found)
        if 'pictures' in self._kinds or (seen.frame is not None and 'video' in self._kinds):
            pixels = read_image(seen.source) if seen.pixels is None else seen.pixels
            picture = draw_detections(pixels, plain(found), self._classes, self._objects.get(seen.source))
            if 'pictures' in self._kinds:
                write_picture(os.path.join(self._folder, f'{seen.stem}.png'), picture)
            if seen.frame is not None and 'video' in self._kinds:
                self._add_to_video(seen, picture)

    def __exit__(self, kind, error, trace):
        whole = kind is None or issubclass(kind, KeyboardInterrupt)
        self._videos.__exit__(*((None, None, None) if whole else (kind, error, trace)))
        if whole:
            if 'json' in self._kinds:
                self._write_json('detections.json', self._found)
            if 'coco' in self._kinds:
                self._write_json('coco_results.json', self._results)
                categories = [{'id': self._category_ids[name], 'name': name} for name in self._classes]
                whole_set = {'images': self._images, 'categories': categories, 'annotations': []}
                self._write_json('coco_images.json', whole_set)
        return super().__exit__(kind, error, trace)

    def _write_json(self, name: str, content) -> None:
        whole_file.write_text(os.path.join(self._folder, name), json.dumps(content, indent=1))

    def _add_to_coco(self, seen: Seen, found: Detections) -> None:
        name = seen.source if seen.frame is None else f'{seen.stem}.png'
        number: int | str = len(self._images) + 1
        if self._given_ids is not None:
            number = self._given_ids[0][os.path.basename(name)]
        size = {'width': found.width, 'height': found.height}
        self._images.append({'id': number, 'file_name': os.path.basename(name), **size})
        self._results += coco_results(found, number, self._category_ids)

    def _write_voc(self, seen: Seen, found: Detections) -> None:
        path = voc_path(self._folder, seen.stem)
        if os.path.lexists(path):
            raise ValueError(f'{path} is there already, and may have been corrected by hand: give another --out')
        filename = os.path.basename(seen.source)
        folder = os.path.basename(os.path.dirname(os.path.abspath(seen.source)))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if seen.pixels is not None:
            filename, folder = f'{seen.stem}.png', 'JPEGImages'
            os.makedirs(os.path.join(self._folder, folder), exist_ok=True)
            write_picture(os.path.join(self._folder, folder, filename), seen.pixels)
        whole_file.write_text(path, voc_xml(found, filename, folder))

    def _add_to_video(self, seen: Seen, picture: np.ndarray) -> None:
        if self._video is None or seen.source != self._video_of:
            self._videos.close()
            self._videos = contextlib.ExitStack()
            path = os.path.join(self._folder, f'{seen.file_name}.mp4')
            self._video = self._videos.enter_context(video_written(path, seen.fps))
            self._video_of = seen.source
        self._video.add(picture)


def voc_path(folder: str, stem: str) -> str:
    """Where the annotation of an image goes."""
    return os.path.join(folder, 'Annotations', f'{stem}.xml')


def file_names(paths: Sequence[str]) -> dict[str, str]:
    """What files of each path are called: its name without extension; of several alike what their paths differ by."""
    stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    alike = Counter(stems)
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths]) if paths else ''
    names: dict[str, str] = {}
    taken: set[str] = set()
    for path, stem in zip(paths, stems, strict=True):
        name = stem if alike[stem] == 1 else os.path.relpath(os.path.abspath(path), root).replace(os.sep, '_')
        while name in taken:
            name += '_'
        taken.add(name)
        names[path] = name
    return names


def check_targets(folder: str, kinds: Collection[str], names: Mapping[str, str], videos: Collection[str]) -> None:
    """Raises ValueError where a file would be written over an image, or over annotations. names: as `file_names`."""
    for path, name in names.items():
        target = os.path.join(folder, f'{name}.mp4' if path in videos else f'{name}.png')
        if {'pictures', 'video'} & set(kinds) and os.path.realpath(path) == os.path.realpath(target):
            raise ValueError(f'the picture of {path} would be written over it: give another folder as --out')
        if 'voc' in kinds and os.path.lexists(voc_path(folder, name)):
            raise ValueError(
                f'{voc_path(folder, name)} is there already, and may have been corrected by hand: give another --out'
            )


def coco_ids_of(path: str, classes: Sequence[str]) -> tuple[dict[str, int | str], dict[str, int | str]]:
    """(ids of images by file name, ids of classes by name) of a COCO annotation file.

    Raises ValueError if it is none, or lacks one of `classes`.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        images = {os.path.basename(each['file_name']): each['id'] for each in content['images']}
        categories = {each['name']: each['id'] for each in content['categories']}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f'{path}: not a COCO annotation file ({type(error).__name__}: {error})') from None
    missing = [name for name in classes if name not in categories]
    if missing:
        raise ValueError(f'{path} has no category {", ".join(missing)}; it has: {", ".join(categories)}')
    return images, categories
