# The messages are made when the module is loaded: a type checker takes each of their names as it comes.
from typing import Any

def __getattr__(name: str) -> Any: ...
