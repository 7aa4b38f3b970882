"""What libjpeg says of damage inside JPEG files: it makes up the pixels, and tells standard error alone.

A file damaged in its middle, with a beginning and an end as they should be, is read without an error by OpenCV and by
Pillow; what follows the damage is grey, or of other colours and in other places. Another process goes through such
files, so that what is said can be told from what else stands on standard error, and to which file it belongs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

# What the other process does. An eighth of the size is enough: all data are gone through for it.
_TRIAL = """
import os, sys
import cv2, numpy
for path in os.fsencode(sys.stdin.read()).split(b'\\0'):
    os.write(2, b'\\n\\0\\n')
    try:
        cv2.imdecode(numpy.fromfile(path, numpy.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
    except (cv2.error, OSError):
        pass  # not for this trial to tell
"""
_WARNINGS = ('Corrupt JPEG data', 'Premature end of JPEG', 'Inconsistent progression')


def damage_within_jpegs(paths: Sequence[str]) -> list[str | None]:
    """The first thing that libjpeg warns of in each of these files, None where there is nothing.

    Not all damage can be told: where the bits still make sense to the decoder, no one sees that they are others.
    """
    if not paths:
        return []
    text = '\0'.join(paths)
    done = subprocess.run(
        [sys.executable, '-c', _TRIAL], input=text.encode('utf-8', 'surrogateescape'), capture_output=True, check=False
    )
    said = done.stderr.decode(errors='replace').split('\n\0\n')[1:]
    found = [next((line for line in each.splitlines() if line.startswith(_WARNINGS)), None) for each in said]
    return (found + [None] * len(paths))[: len(paths)]
