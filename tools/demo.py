#!/usr/bin/env python3
"""Detects objects in photographs, videos and what a camera sees, and writes pictures and files of what it found.

tools/demo.py --gpu cpu --net output/demo_ohem/demo_train/small_fast_rcnn_ohem_iter_1400.caffemodel \\
    --images data/demo/JPEGImages/test_000*.jpg --out output/demo_pictures

Photographs are named as files, folders, patterns ('photos/**/*.jpg'), or in a text file, one a line; videos by their
files; a camera by its number, 0 being the first (Ctrl-C ends it).

The net, its classes and settings are those that the weights bring along; --def, --classes, --cfg and --set go before
them. --proposals auto is selective search, of photographs wider than 500 pixels at that width, as Fast R-CNN's
boxes were made; random boxes where OpenCV lacks it. A net with an RPN proposes by itself.

--write takes one or more of:
"""

import _init_paths  # noqa: F401

import argparse
import collections
import os
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

from _command_line import add_flags, configure, parser_of, run
from _detector import check_files, load_detector
from _project import add_project_flags, model_to_test, need, pictures_of, project_of

_WRITTEN = """
  pictures   NAME.png, with boxes
  video      of a video, NAME.mp4 with boxes
  json       detections.json: of each image a list of class, score, box (x1, y1, x2, y2)
  jsonl      detections.jsonl: a line an image, written as it goes
  csv        detections.csv: a row a detection, written as it goes
  coco       coco_results.json, COCO's result format, and coco_images.json, the images and classes that it numbers
             (by --coco_ids as another annotation file does)
  voc        Annotations/NAME.xml, PASCAL VOC's form, to be corrected in a labelling tool; of a video its frames too
Without it: pictures (of a video: video) and json. Exit status 1 where an image or video was left out.
"""


def parse_args() -> argparse.Namespace:
    parser = parser_of((__doc__ or '').rstrip('\n') + _WRITTEN)
    add_project_flags(parser)
    parser.add_argument('--def', dest='prototxt', metavar='FILE', help='test prototxt (default: that of the weights)')
    parser.add_argument('--net', dest='caffemodel', metavar='FILE', help='trained weights (.caffemodel)')
    parser.add_argument(
        'photographs',
        nargs='*',
        metavar='FILE',
        help='photographs and videos: files, folders, patterns, or a .txt that lists them; a camera number',
    )
    parser.add_argument('--images', nargs='+', default=[], metavar='FILE', help='the same')
    parser.add_argument(
        '--classes',
        metavar='FILE',
        help='names of the classes, one a line (default: those that the weights name, else of PASCAL VOC)',
    )
    parser.add_argument(
        '--out', metavar='FOLDER', help="where pictures go (default: output/demo, or beside the project's models)"
    )
    parser.add_argument('--write', nargs='+', metavar='KIND', help='what to write there (see below)')
    parser.add_argument('--coco_ids', metavar='FILE', help='COCO annotation file by which --write coco numbers images')
    parser.add_argument(
        '--proposals',
        choices=('auto', 'selective_search', 'selective_search_quality', 'random'),
        default='auto',
        help='where objects are looked for (default: auto, see below)',
    )
    parser.add_argument(
        '--truth',
        metavar='NAME',
        help="data set whose objects are drawn too, where it has the photograph (a project's)",
    )
    parser.add_argument(
        '--det_thresh', type=float, help='least score of a detection (default: 0.6; of SVMs 0, where they decide)'
    )
    parser.add_argument('--every', type=int, default=1, metavar='N', help='of a video every N-th frame')
    parser.add_argument('--frames', type=int, default=0, metavar='N', help='of a video N frames at most (0: all)')
    add_flags(parser)
    return parser.parse_args()


def sources_of(words: list[str]) -> tuple[list[str], list[str], list[int]]:
    """The photographs, the videos and the cameras that the command line names."""
    from detection_data.image_file import IMAGE_EXTENSIONS
    from detection_data.image_list import listed_images
    from detection_data.video import VIDEO_EXTENSIONS

    cameras = [int(word) for word in words if word.isdecimal() and len(word) < 4 and not os.path.exists(word)]
    rest = [word for word in words if not (word.isdecimal() and len(word) < 4 and not os.path.exists(word))]
    files = listed_images(rest, (*IMAGE_EXTENSIONS, *VIDEO_EXTENSIONS))
    videos = [path for path in files if path.lower().endswith(VIDEO_EXTENSIONS)]
    return [path for path in files if path not in set(videos)], videos, cameras


def load(args: argparse.Namespace) -> Any:
    """The detector that the flags name."""
    from detection_data.pascal_voc import VOC_CLASSES
    from fast_rcnn.model_card import note_other_settings, read_card

    detector = load_detector(args, args.det_thresh, VOC_CLASSES)
    detector.batch = detector.settings.TEST.IMS_PER_BATCH
    note_other_settings(read_card(args.caffemodel), args.caffemodel, detector.settings)
    test = detector.settings.TEST
    print(
        f'{args.caffemodel} detects {", ".join(detector.classes)}, with TEST.SCALES {list(test.SCALES)}, '
        f'TEST.MAX_SIZE {test.MAX_SIZE}, TEST.NMS {test.NMS}'
    )
    return detector


def check_kinds(given: list[str], words: list[str]) -> None:
    """Raises ValueError where --write names no kind, or has taken a photograph that stands behind it."""
    from inspection.detection_files import KINDS

    unknown = [kind for kind in given if kind not in KINDS]
    if unknown and (not words or any(map(os.path.exists, unknown))):
        raise ValueError(
            f'--write took {" ".join(unknown)}: it takes all that follows it as kinds, of {", ".join(KINDS)}. '
            'Put photographs before --write, or behind --images'
        )
    if unknown:
        raise ValueError(f'--write {" ".join(unknown)}: expected of {", ".join(KINDS)}')


def main() -> int:
    args = parse_args()
    words = [*args.photographs, *args.images]
    check_kinds(args.write or [], words)
    if not words:
        raise ValueError('no photographs: name them, as in tools/demo.py --project fruit photo.jpg')
    if args.every < 1 or args.frames < 0:
        raise ValueError(f'--every is {args.every} and --frames {args.frames}; expected 1 or more, and 0 or more')
    project = project_of(args)
    if project is not None:
        args.prototxt = args.prototxt or project.path(args.method, 'test.prototxt')
    need(args, **({} if project else {'caffemodel': '--net'}))
    check_files(args, args.coco_ids)
    photographs, videos, cameras = sources_of(words)
    configure(args)
    if project is not None:
        args.caffemodel = args.caffemodel or model_to_test(project, args.method, args.run)
    args.out = args.out or ('output/demo' if project is None else pictures_of(project))

    import cv2
    from tqdm import tqdm

    from detection_data.factory import get_imdb
    from detection_data.image_file import DamagedImage
    from inspection.detection_files import DetectionFiles, check_targets, coco_ids_of, file_names

    kinds = args.write or [
        *(['pictures'] if photographs else []),
        *(['video'] if videos or cameras else []),
        'json',
    ]
    if kinds == ['video'] and not videos and not cameras:
        raise ValueError('--write video: photographs make no video; expected pictures, or the name of a video')
    names = file_names([*photographs, *videos])
    check_targets(args.out, kinds, names, videos)
    detector = load(args)
    coco_ids = None if args.coco_ids is None else coco_ids_of(args.coco_ids, detector.classes)
    if coco_ids is not None and 'coco' in kinds:
        unnumbered = [path for path in photographs if os.path.basename(path) not in coco_ids[0]]
        if unnumbered or videos or cameras:
            raise ValueError(f'{args.coco_ids} has no image {(unnumbered + videos + ["of a camera"])[0]} (--coco_ids)')
    if args.proposals == 'auto' and not detector.proposes and not hasattr(cv2, 'ximgproc'):
        print('This OpenCV has no selective search (opencv-contrib-python-headless has): random boxes instead')

    objects = {} if args.truth is None else objects_of(get_imdb(args.truth), photographs)
    if args.truth is None and project is not None:
        for split in project.splits:
            objects |= objects_of(get_imdb(project.imdb(split)), photographs)

    left_out: list[str] = []

    def leave_out(name: str, error: Exception) -> None:
        left_out.append(name)
        with tqdm.external_write_mode(file=sys.stderr):
            print(f'left out: {error if name in str(error) else f"{name}: {error}"}', file=sys.stderr)

    def say_damaged(message, category, *where, **more) -> None:
        if not issubclass(category, DamagedImage):
            return show_other(message, category, *where, **more)
        with tqdm.external_write_mode(file=sys.stderr):
            print(message, file=sys.stderr)

    seen = _Seen(names, photographs, videos, cameras, args.every, args.frames, leave_out)
    images = count = 0
    started = time.perf_counter()
    try:
        with (
            warnings.catch_warnings(),
            DetectionFiles(args.out, kinds, detector.classes, coco_ids, objects) as files,
            tqdm(total=seen.total, unit='image', disable=None) as bar,
        ):
            show_other, warnings.showwarning = warnings.showwarning, say_damaged
            warnings.simplefilter('always', DamagedImage)
            for found in detector.each(iter(seen), broken=seen.broken):
                files.add(seen.waiting.popleft(), found)
                images, count = images + 1, count + len(found)
                bar.update()
    except KeyboardInterrupt:
        print(_summary(count, images, time.perf_counter() - started, kinds, args.out))
        if cameras and not left_out:
            return 0
        raise
    print(_summary(count, images, time.perf_counter() - started, kinds, args.out))
    if left_out:
        of = len(photographs) + len(videos) + len(cameras)
        what = 'photographs and videos' if videos or cameras else 'photographs'
        if of == 1:
            what = 'photograph' if photographs else 'video'
        print(f'{len(left_out)} of {of} {what} {"was" if len(left_out) == 1 else "were"} left out', file=sys.stderr)
    return int(bool(left_out))


class _Seen:
    """The images of the sources, as `Detector.each` takes them; `waiting` are those it has not answered yet."""

    def __init__(self, names, photographs, videos, cameras, step: int, most: int, leave_out):
        self._names = names
        self._photographs, self._videos, self._cameras = photographs, videos, cameras
        self._step, self._most, self._leave_out = step, most, leave_out
        self.waiting: collections.deque = collections.deque()
        self.total = None if videos or cameras else len(photographs)

    def broken(self, image, error) -> None:
        self._leave_out(self.waiting.pop().name, error)

    def __iter__(self) -> Iterator[Any]:
        from detection_data.image_file import ImageError
        from detection_data.video import Frames
        from inspection.detection_files import Seen

        for path in self._photographs:
            self.waiting.append(Seen(path, self._names[path]))
            yield path
        for source in (*self._videos, *self._cameras):
            name = source if isinstance(source, str) else f'camera_{source}'
            try:
                frames = Frames(source, self._step, self._most)
                for number, pixels in frames:
                    time_of = number / frames.fps
                    stem = self._names.get(name, name)
                    self.waiting.append(Seen(name, stem, number, frames.fps / self._step, time_of, pixels))
                    yield pixels
            except ImageError as error:
                self._leave_out(name, error)


def _summary(count: int, images: int, seconds: float, kinds: list[str], out: str) -> str:
    if not images:
        return 'No image was looked at'
    written = ['detections.json' if kind == 'json' else kind for kind in dict.fromkeys(kinds)]
    what = ' and '.join(filter(None, (', '.join(written[:-1]), written[-1])))
    are = 'are' if len(written) > 1 or written == ['pictures'] else 'is'
    rate = images / max(seconds, 1e-9)
    return f'{count} detections in {images} images, {rate:.2f} images/s: {what} {are} in {out}'


def objects_of(imdb: Any, paths: list[str]) -> dict:
    """{path: boxes (n, 4) of the objects} of those photographs that a data set has."""
    wanted = {os.path.realpath(path): path for path in paths}
    names = {os.path.basename(path) for path in wanted}
    found = {}
    for i in range(imdb.num_images):
        try:
            path = imdb.image_path_at(i)
        except ValueError:  # another photograph, which is gone
            continue
        if os.path.basename(path) in names and os.path.realpath(path) in wanted:
            found[wanted[os.path.realpath(path)]] = imdb.annotation(i)['boxes']
    return found


if __name__ == '__main__':
    run(main)
