"""The addresses of the server, as a FastAPI application."""

import asyncio
import contextlib
import importlib.resources
import time
from collections.abc import Sequence

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from serving.batching import Answer, Batcher, Detect
from serving.body import Budget, hint_of_form, picture_in, read_body
from serving.limits import FAILED, Limits, Refusal
from serving.metrics import Metrics
from serving.picture import FORMATS, header_of

# The page fetches nothing but from this server, and shows pictures that the browser holds already
_PAGE_HEADERS = {
    'Content-Security-Policy': "default-src 'none'; img-src blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'Referrer-Policy': 'no-referrer',
}
_GONE = 499  # nginx' number for a client that did not wait; nobody reads it but the metrics


def make_app(
    detect: Detect,
    model: str,
    classes: Sequence[str],
    threshold: float = 0.6,
    limits: Limits | None = None,
    metrics: Metrics | None = None,
    scores: tuple[float, float] = (0, 1),
) -> FastAPI:
    """The server's application.

    detect: see `batching.Detect`; it is called in one thread. model: a name to show, of no secret. classes: without
    the background. threshold: least score of a detection, where a request does not say another. scores: the least and
    the most that a request may say.
    """
    limits, metrics = limits or Limits(), metrics or Metrics()
    batcher = Batcher(detect, limits, metrics)
    budget = Budget(limits.bytes_in_all)
    queries = {'threshold': f'a number from {scores[0]:g} to {scores[1]:g}', 'turn': 'true or false'}
    page = importlib.resources.files('serving').joinpath('page.html').read_text(encoding='utf-8')

    @contextlib.asynccontextmanager
    async def life(app: FastAPI):
        batcher.start()
        yield
        await asyncio.to_thread(batcher.close)

    app = FastAPI(title='Detector', version=model, docs_url=None, redoc_url=None, lifespan=life)

    @app.post('/detect', openapi_extra=_BODY, response_class=JSONResponse)
    async def detect_objects(
        request: Request,
        threshold: float = Query(threshold, ge=scores[0], le=scores[1], description='least score of a detection'),
        turn: bool = Query(False, description='turn the image upright first, as its EXIF data say'),
    ) -> Response:
        """Detects objects in the image of the body: a file as it is, or the one file of a form."""
        started = time.perf_counter()
        unknown = [key for key in request.query_params if key not in queries]
        if unknown:
            raise Refusal(422, f'{unknown[0]:.100}: there is no such query; there are {" and ".join(queries)}', _CLOSE)
        with budget.share() as share:
            body = await read_body(request, limits, share)
            content_type = request.headers.get('content-type', '')
            data = await asyncio.to_thread(picture_in, body, content_type)
            del body
            with hint_of_form(content_type):
                header = await asyncio.to_thread(header_of, data, limits)
                answer = await _answer(request, batcher, data, header, turn, limits)
        found = [each for each in answer.detections if each.score >= threshold]
        for each in found:
            metrics.objects.labels(each.name).inc()
        seconds = time.perf_counter() - started
        metrics.answer_seconds.observe(seconds)
        metrics.answers.labels(200).inc()
        return JSONResponse(
            {
                'size': {'width': answer.width, 'height': answer.height},
                'orientation': header.orientation,
                'detections': [
                    {
                        'name': each.name,
                        'score': round(float(each.score), 4),
                        'box': [round(float(v), 1) for v in (each.x1, each.y1, each.x2, each.y2)],
                    }
                    for each in sorted(found, key=lambda each: -each.score)
                ],
                'ms': {
                    'total': round(1000 * seconds, 1),
                    'waited': round(1000 * answer.waited, 1),
                    'detecting': round(1000 * answer.worked, 1),
                },
                'batch': answer.batch,
            }
        )

    @app.get('/', response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> Response:
        return HTMLResponse(page, headers=_PAGE_HEADERS)

    @app.get('/health')
    async def health() -> Response:
        """200 while answers come, 503 when none do; what is served, and its limits."""
        trouble = batcher.trouble()
        state = {
            'status': 'ok' if trouble is None else 'trouble',
            'detail': trouble,
            'model': model,
            'classes': list(classes),
            'threshold': threshold,
            'scores': scores,
            'formats': FORMATS,
            'limits': {'bytes': limits.bytes, 'pixels': limits.pixels, 'seconds': limits.answer_seconds},
            'waiting': batcher.waiting(),
        }
        return JSONResponse(state, 200 if trouble is None else 503)

    @app.get('/metrics')
    async def show_metrics() -> Response:
        """Counts and times, for Prometheus."""
        return Response(metrics.text(), media_type='text/plain; version=0.0.4; charset=utf-8')

    def refused(request: Request, status: int, words: str, headers=None) -> Response:
        if request.url.path == '/detect':
            metrics.answers.labels(status).inc()
        return JSONResponse({'detail': words}, status, headers)

    @app.exception_handler(Refusal)
    async def say_refusal(request: Request, error: Refusal) -> Response:
        return refused(request, error.status, error.words, error.headers)

    @app.exception_handler(RequestValidationError)
    async def say_invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = first['loc'][-1]
        expected = f'expected {queries[name]}' if name in queries else first['msg']
        return refused(request, 422, f'{name}: {expected}; got {first.get("input")!r:.100}', _CLOSE)

    @app.exception_handler(HTTPException)
    async def say_http(request: Request, error: HTTPException) -> Response:
        return refused(request, error.status_code, _WORDS.get(error.status_code, error.detail), error.headers)

    @app.exception_handler(Exception)
    async def say_failure(request: Request, error: Exception) -> Response:
        return refused(request, 500, FAILED)

    return app


async def _answer(request: Request, batcher: Batcher, data: bytes, header, turn: bool, limits: Limits) -> Answer:
    """Waits for the answer, but no longer than for its client, nor than is allowed (Refusal 504)."""
    answer = asyncio.wrap_future(batcher.submit(data, header, turn))
    gone: asyncio.Future = asyncio.ensure_future(request.receive())
    both: set[asyncio.Future] = {answer, gone}
    try:
        await asyncio.wait(both, timeout=limits.answer_seconds, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if gone.done():
            raise Refusal(_GONE, 'the client has left')
        raise Refusal(504, f'no answer within {limits.answer_seconds:g} seconds, the most that is waited')
    finally:
        answer.cancel()
        gone.cancel()


_CLOSE = {'Connection': 'close'}
_WORDS = {
    404: 'there is no such address; there are POST /detect, /, /health and /metrics',
    405: 'this address is not for that method; POST an image to /detect',
}
_BODY = {
    'requestBody': {
        'required': True,
        'content': {
            'application/octet-stream': {'schema': {'type': 'string', 'format': 'binary'}},
            'multipart/form-data': {
                'schema': {'type': 'object', 'properties': {'image': {'type': 'string', 'format': 'binary'}}}
            },
        },
    }
}
