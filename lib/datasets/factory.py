"""Names of data sets -> ``imdb``.

voc_2007_trainval                       VOC 2007 ... 2012: train, val, trainval, test
folder:data/demo:train                  any folder in VOC layout, and a split of it
voc_2007_trainval+voc_2012_trainval     several, joined
"""

from __future__ import annotations

import difflib
import os
import re

from datasets.imdb import JoinedImdb, imdb
from datasets.pascal_voc import VOC_CLASSES, class_names, pascal_voc

PROJECT_DIR = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
YEARS = tuple(str(year) for year in range(2007, 2013))
SPLITS = ('train', 'val', 'trainval', 'test')
FOLDER = 'folder:'


def list_imdbs() -> list[str]:
    """The names of the known sets. Besides these there is ``folder:PATH:SPLIT``, and any joined by '+'."""
    return [f'voc_{year}_{split}' for year in YEARS for split in SPLITS]


def get_imdb(name: str, data_dir: str | None = None) -> imdb:
    """The data set of that name (see the module).

    Args:
        name: 'voc_<year>_<split>', 'folder:PATH:SPLIT' (a relative PATH is relative to the working
            directory), or several joined by '+'.
        data_dir: the folder that holds VOCdevkit<year> and the proposals; the project's ``data`` if None.

    Raises:
        ValueError: unknown name (the message gives the nearest ones).
        FileNotFoundError: the files of the set are not there (the message says where, and how to get them).
    """
    data_dir = data_dir or os.path.join(PROJECT_DIR, 'data')
    parts = []
    for part_name in name.split('+'):
        parts.append(_single(part_name.strip(), data_dir))
        parts[-1].spec = part_name.strip()
    result = parts[0] if len(parts) == 1 else JoinedImdb(parts)
    result.spec = name
    return result


def _single(name: str, data_dir: str) -> imdb:
    if name.startswith(FOLDER):
        return _folder(name)
    if name in list_imdbs():
        _, year, split = name.split('_')
        return _voc(name, year, split, data_dir)
    near = difflib.get_close_matches(name, list_imdbs(), n=4, cutoff=0.4)
    raise ValueError(
        f'unknown data set {name!r}; '
        + (f'nearest names: {", ".join(near)}; ' if near else '')
        + 'known are voc_<2007...2012>_<train|val|trainval|test>, folder:PATH:SPLIT, and these joined by +'
    )


def _voc(name: str, year: str, split: str, data_dir: str) -> imdb:
    devkits = [os.path.join(data_dir, 'VOCdevkit' + year), os.path.join(data_dir, 'VOCdevkit')]
    roots = [os.path.join(devkit, 'VOC' + year) for devkit in devkits]
    root = next((r for r in roots if os.path.isdir(r)), None)
    if root is None:
        raise FileNotFoundError(
            f'{name}: VOC {year} not found: looked for {" and ".join(roots)}; '
            f'link your copy of the development kit there (ln -s /path/to/VOCdevkit {devkits[0]}) '
            f'or fetch it with data/scripts/fetch_voc.sh {year}'
        )
    pattern = os.path.join(_literal(data_dir), '{method}_data', name + '.h5')
    voc = pascal_voc(name, root, split, VOC_CLASSES, pattern, use_07_metric=year == '2007')
    if split == 'test' and year != '2007':
        voc.withheld = not all(os.path.isfile(voc.annotation_path_at(i)) for i in range(voc.num_images))
    return voc


def _folder(name: str) -> imdb:
    root, separator, split = name[len(FOLDER) :].rpartition(':')
    if not (separator and root and split):
        raise ValueError(f'{name!r}: expected folder:PATH:SPLIT, for instance folder:data/demo:train')
    root = os.path.abspath(os.path.expanduser(root))
    if not os.path.isdir(root):
        raise FileNotFoundError(
            f'{name}: no folder {root}; expected Annotations, JPEGImages and ImageSets/Main in it; '
            f'the demo set is made by: python data/scripts/make_demo_data.py --out data/demo'
        )
    set_name = re.sub(r'[^\w.-]', '_', f'{os.path.basename(root)}_{split}')
    pattern = os.path.join(_literal(root), 'proposals', '{method}_' + _literal(split) + '.h5')
    return pascal_voc(set_name, root, split, class_names(root), pattern)


def _literal(text: str) -> str:
    """Braces in a path are no fields of a pattern."""
    return text.replace('{', '{{').replace('}', '}}')
