"""The bytes of a request: read within a time and a number, and the picture taken out of a form.

Nothing a client says of a file is used, neither its name nor its type, and nothing is written to disk.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import python_multipart
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from serving.limits import Limits, Refusal, busy

_MOST_PARTS = 16
_DRAINED = 4  # times the limit: so much of a body that is too large is still read, so that its sender reads the answer
_DRAIN_SECONDS = 2


class Budget:
    """How many bytes all requests together hold."""

    def __init__(self, most: int):
        self.most = most
        self.held = 0

    @contextlib.contextmanager
    def share(self) -> Iterator['Share']:
        """A share that grows while the block runs, and is given back at its end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.held -= share.held


class Share:
    """What one request holds of a `Budget`."""

    def __init__(self, budget: Budget):
        self._budget = budget
        self.held = 0

    def grow(self, count: int) -> None:
        """Takes `count` bytes more. Raises Refusal (503) where all requests hold too many."""
        if self._budget.held + count > self._budget.most:
            raise busy('the server is receiving as many images as it can hold; try again')
        self._budget.held += count
        self.held += count


async def read_body(request: Request, limits: Limits, share: Share) -> bytes:
    """The body of a request.

    Raises Refusal: 413 for more than `limits.bytes`, 408 for a sender that is too slow, 415 for a compressed body, 400
    for one that ends early, 503 where `share` cannot grow.
    """
    if request.headers.get('content-encoding', 'identity').lower() != 'identity':
        raise Refusal(415, 'the body is compressed (Content-Encoding); send the image as it is', _CLOSE)
    stated = request.headers.get('content-length', '')
    too_large = Refusal(413, f'the body is larger than {limits.bytes} bytes, the most that is accepted', _CLOSE)
    if stated.isdecimal() and int(stated) > limits.bytes:
        if int(stated) <= _DRAINED * limits.bytes and 'expect' not in request.headers:
            await _drain(request, _DRAINED * limits.bytes)
        raise too_large
    body = bytearray()
    try:
        async for chunk in _within(limits.send_seconds, request):
            if len(body) + len(chunk) > limits.bytes:
                await _drain(request, (_DRAINED - 1) * limits.bytes)
                raise too_large
            share.grow(len(chunk))
            body += chunk
    except ClientDisconnect:
        raise Refusal(400, 'the connection ended before the body did', _CLOSE) from None
    return bytes(body)


async def _within(seconds: float, request: Request):
    """The chunks of a body, all of them within a time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    chunks = request.stream()
    while True:
        try:
            yield await asyncio.wait_for(anext(chunks), end - loop.time())
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            words = f'the body was not there after {seconds:g} seconds, the most that is waited'
            raise Refusal(408, words, _CLOSE) from None


async def _drain(request: Request, most: int) -> None:
    """Reads on for a moment and forgets: who is still sending when a connection closes never reads the answer."""
    count = 0
    with contextlib.suppress(Refusal, ClientDisconnect, RuntimeError):
        async for chunk in _within(_DRAIN_SECONDS, request):
            count += len(chunk)
            if count > most:
                return


@contextlib.contextmanager
def hint_of_form(content_type: str) -> Iterator[None]:
    """Adds to the refusal of an image that `curl -d` may have spoilt, which drops line ends, how to send it whole."""
    try:
        yield
    except Refusal as refusal:
        if refusal.status in (415, 422) and content_type.lower().startswith('application/x-www-form-urlencoded'):
            words = f'{refusal.words}. It came as curl -d sends a form, without the line ends: curl --data-binary @FILE'
            raise Refusal(refusal.status, words, refusal.headers) from None
        raise


def picture_in(body: bytes, content_type: str) -> bytes:
    """The picture in a body: all of it, or the one file of a form, by the request's Content-Type.

    Raises Refusal: 400 for a form that cannot be read, 422 for one without a file or with several, or for no bytes.
    """
    kind, options = parse_options_header(content_type.encode('latin-1'))
    if kind == b'multipart/form-data':
        body = _file_of_form(body, options.get(b'boundary', b''))
    if not body:
        raise Refusal(422, 'there is no image: the body is empty. Send the bytes of an image file')
    return body


def _file_of_form(body: bytes, boundary: bytes) -> bytes:
    if not boundary:
        raise Refusal(400, 'the form cannot be read: its Content-Type states no boundary')
    form = _Form()
    try:
        parser = python_multipart.MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refusal(400, f'the form cannot be read: {error}') from None
    if not form.complete:
        raise Refusal(400, 'the form cannot be read: it ends without its closing boundary')
    if len(form.files) != 1:
        count = 'no file' if not form.files else f'{len(form.files)} files'
        raise Refusal(422, f'the form has {count}; expected one, the image, as in curl -F image=@photo.jpg')
    return bytes(form.files[0])


class _Form:
    """What the parser of a form has met: the content of its files, and whether it came to its end."""

    def __init__(self) -> None:
        self.files: list[bytearray] = []
        self.complete = False
        self._parts = 0
        self._in_file = False
        self._field = self._value = b''

    def callbacks(self) -> Any:
        """As `MultipartParser` takes them."""
        names = ('part_begin', 'header_begin', 'header_field', 'header_value', 'header_end', 'part_data', 'end')
        return {f'on_{name}': getattr(self, name) for name in names}

    def part_begin(self) -> None:
        self._parts += 1
        self._in_file = False
        if self._parts > _MOST_PARTS:
            raise Refusal(422, f'the form has more than {_MOST_PARTS} parts; send one, the image')

    def header_begin(self) -> None:
        self._field = self._value = b''

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._field.lower() == b'content-disposition':
            _, options = parse_options_header(self._value)
            if b'filename' in options or options.get(b'name') == b'image':
                self._in_file = True
                self.files.append(bytearray())

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.files[-1] += data[start:end]

    def end(self) -> None:
        self.complete = True


_CLOSE = {'Connection': 'close'}
