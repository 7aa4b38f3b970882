"""Files that appear whole or not at all. All that the project writes, engine and detector, is written through here.

writing.py      write, write_text, in_memory, beside, rename: the old file's place is taken by what is on the disk;
                check_place, whether that can be, before long work
leftovers.py    what a killed process left half-written: found and removed by the next one
growing.py      GrowingFile, which grows at its end
overlay.py      Overlay, for libraries that cannot bear a full disk: their writes are kept until they can be done
failure.py      the error that says which file, in which folder, how many bytes are needed and how many are free
picture.py      write_picture, a picture as PNG or JPEG
"""

from whole_file.failure import explained
from whole_file.growing import GrowingFile
from whole_file.overlay import Overlay
from whole_file.writing import beside, check_place, in_memory, rename, write, write_text

__all__ = ['GrowingFile', 'Overlay', 'beside', 'check_place', 'explained', 'in_memory', 'rename', 'write', 'write_text']
