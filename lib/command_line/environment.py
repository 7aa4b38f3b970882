"""A package that is missing: one line that says which environment a command needs, instead of a traceback.

Imported before any other package is, so it imports next to nothing itself.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing's takes a while to import
    from types import TracebackType

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# What requirements.txt brings, by the names that are imported.
_BROUGHT = {
    *('torch', 'numpy', 'cv2', 'google', 'google.protobuf', 'pydot', 'h5py', 'scipy'),
    *('easydict', 'yaml', 'pycocotools', 'PIL', 'matplotlib', 'tqdm', 'jinja2'),
}
# The same of the server. Who installed the project otherwise may have left it out, which tools/serve.py tells of.
_SERVER = {'fastapi', 'starlette', 'uvicorn', 'h11', 'python_multipart', 'prometheus_client'}


def advice(error: BaseException) -> str:
    """What to do about a package that the project's environment brings and this Python lacks; '' for other errors."""
    if not isinstance(error, ModuleNotFoundError) or error.name not in _BROUGHT | _SERVER:
        return ''
    if not os.path.isfile(os.path.join(_ROOT, 'requirements.txt')):  # installed as a package
        if error.name in _SERVER:
            return ''
        return '''install the project with what its detector needs, in its folder: pip install ".[detector]"'''
    here = os.path.relpath(_ROOT)
    folder = '' if here == os.curdir else f'{here}/'
    venv = os.path.join(_ROOT, '.venv')
    if error.name in _SERVER and (sys.prefix != sys.base_prefix or not os.path.isdir(venv)):
        return ''
    if os.path.realpath(sys.prefix) == os.path.realpath(venv):
        return f"the project's environment lacks it: pip install -r {folder}requirements.txt"
    made = os.path.isfile(os.path.join(venv, 'bin', 'activate'))
    make = '' if made else f'make{" -C " + here if folder else ""}, then '
    return f"this needs the project's environment: {make}source {folder}.venv/bin/activate"


def say_what_is_missing(command: str) -> None:
    """From now on such an error ends the process with one line and status 1, unless --debug is given.

    command: its name, in what is said then.
    """

    def say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        what = advice(error)
        if not what or '--debug' in sys.argv:
            sys.__excepthook__(kind, error, trace)
            return
        print(f'{command}: error: {error}: {what}', file=sys.stderr)

    sys.excepthook = say
