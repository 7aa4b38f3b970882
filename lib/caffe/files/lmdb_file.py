"""Reading an LMDB, the database of Caffe's Data layers: its records in the order of their keys.

LMDB's own library maps a file and believes what it says of itself: the process dies where that is not true, or where
the file is cut short meanwhile (SIGBUS, SIGSEGV). A Data layer only ever reads all records in order, so this walks the
file itself and checks every page and length before it is followed. No locks are taken: nobody may write meanwhile.

The layout is that of LMDB 0.9 (mdb.c: MDB_meta, MDB_db, MDB_page, MDB_node), of 64-bit machines, in the byte order of
this one.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

_PAGE = struct.Struct('=10xHHH')  # flags, end of the node offsets, start of the nodes
_META = struct.Struct(
    '=16xII16xI44xIHH24xQQQQ'
)  # magic, version, page size; pad, flags, depth, entries, root; last, id
_NODE = struct.Struct('=HHHH')  # low and high half of a size, flags, size of the key
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_PAGE_SIZES = [2**power for power in range(8, 17)]
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_ELSEWHERE = 1  # a node's value stands on pages of its own
_DEPTH = 32  # CURSOR_STACK
_NO_PAGE = 2**64 - 1


class LmdbError(ValueError):
    """A file that is no LMDB, or a damaged one; the message names it."""


class _Tree(NamedTuple):
    """What the valid one of the two meta pages says of the main tree."""

    page_size: int
    depth: int
    entries: int
    root: int
    last_page: int
    transaction: int


class LmdbFile:
    """An LMDB, open for reading. `source`: its folder, or the file where it has none (MDB_NOSUBDIR).

    Raises FileNotFoundError where there is none, OSError where it may not be read, LmdbError where it is damaged.
    """

    def __init__(self, source: str):
        self.path = os.path.join(source, 'data.mdb') if os.path.isdir(source) else source
        self._file = open(self.path, 'rb', buffering=0)  # noqa: SIM115 (it closes with this object)
        self._size = os.fstat(self._file.fileno()).st_size
        self._tree = self._valid_tree()

    def _read(self, at: int, size: int) -> bytes:
        if at + size > self._size:
            raise self._damaged(f'it has {self._size} bytes, of which {size} from {at} on are asked for')
        data = os.pread(self._file.fileno(), size, at)
        if len(data) < size:  # cut short since it was opened, or more than the system reads at once
            raise self._damaged(f'{size} bytes from {at} on cannot be read')
        return data

    def __len__(self) -> int:
        """How many records it has."""
        return self._tree.entries

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of each record, in the order of the keys. Raises LmdbError where a page is damaged."""
        if self._tree.entries == 0:
            return
        count = 0
        for record in self._below(self._tree.root, self._tree.depth):
            count += 1
            if count > self._tree.entries:
                break
            yield record
        if count != self._tree.entries:
            raise self._damaged(f'its header speaks of {self._tree.entries} records, its pages of others')

    def _damaged(self, reason: str) -> LmdbError:
        return LmdbError(f'{self.path} is damaged: {reason}. Copy or convert the data set again')

    def _valid_tree(self) -> _Tree:
        """The newer of the two meta pages. The other is that of the transaction before."""
        first = self._meta(0)
        trees = [first, self._meta(first.page_size)]
        tree = max(trees, key=lambda tree: tree.transaction)
        need = (tree.last_page + 1) * tree.page_size
        if need > self._size:
            raise self._damaged(f'it is cut short, has {self._size} bytes of {need}')
        if tree.root == _NO_PAGE:
            return tree._replace(entries=0)
        if not 0 < tree.depth <= _DEPTH or tree.entries > self._size:
            raise self._damaged(f'its header speaks of {tree.entries} records, {tree.depth} levels deep')
        return tree

    def _meta(self, at: int) -> _Tree:
        if at + _META.size > self._size:
            raise LmdbError(f'{self.path} is no LMDB, or cut short: it has {self._size} bytes')
        numbers = _META.unpack(self._read(at, _META.size))
        magic, version, page_size, _, flags, depth, entries, root, last, transaction = numbers
        if magic != _MAGIC:
            raise LmdbError(f'{self.path} is no LMDB')
        if version != _VERSION or flags & 4:  # MDB_DUPSORT
            raise LmdbError(
                f'{self.path} is an LMDB of another kind (version {version}, flags {flags}) than Caffe writes: '
                'convert the data set again'
            )
        if page_size not in _PAGE_SIZES:
            raise self._damaged(f'pages of {page_size} bytes')
        return _Tree(page_size, depth, entries, root, last, transaction)

    def _page(self, number: int, kind: int) -> int:
        """Where a page begins, if there is one of that number and of this kind."""
        if number > self._tree.last_page:
            raise self._damaged(f'page {number} of {self._tree.last_page + 1} is asked for')
        at = number * self._tree.page_size
        flags, _, _ = _PAGE.unpack(self._read(at, _PAGE.size))
        if flags & 7 != kind:
            raise self._damaged(f'page {number} has flags {flags}, where {kind} is expected')
        return at

    def _below(self, number: int, levels: int) -> Iterator[tuple[bytes, bytes]]:
        """The records below a page: its own if it is a leaf (`levels` is 1), or those of its branches."""
        page = self._read(self._page(number, _LEAF if levels == 1 else _BRANCH), self._tree.page_size)
        _, lower, _ = _PAGE.unpack_from(page)
        if not 18 <= lower <= len(page):
            raise self._damaged(f'page {number} has no entries')
        for node in struct.unpack_from(f'={(lower - 16) // 2}H', page, 16):
            if node + _NODE.size > len(page):
                raise self._damaged(f'page {number} has an entry beyond its end')
            low, high, flags, key_size = _NODE.unpack_from(page, node)
            if sys.byteorder == 'big':
                low, high = high, low
            if levels > 1:
                yield from self._below(low | high << 16 | flags << 32, levels - 1)
            elif flags & ~_ELSEWHERE:
                raise LmdbError(f'{self.path} has named databases or several values a key, which Caffe does not read')
            else:
                key_at = node + _NODE.size
                key = page[key_at : key_at + key_size]
                yield key, self._value(page, key_at + key_size, low | high << 16, bool(flags & _ELSEWHERE))

    def _value(self, page: bytes, at: int, size: int, elsewhere: bool) -> bytes:
        """A record's value of `size` bytes, which stands in its page at `at`, or there the number of another page."""
        if at + (8 if elsewhere else size) > len(page):
            raise self._damaged('a record ends beyond its page')
        if not elsewhere:
            return page[at : at + size]
        (number,) = struct.unpack_from('=Q', page, at)
        return self._read(self._page(number, _OVERFLOW) + 16, size)
