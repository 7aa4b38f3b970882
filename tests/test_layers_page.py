"""docs/layers.md says what the registry, caffe.proto and the tests say."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / 'docs'


def test_the_page_is_up_to_date():
    page = runpy.run_path(str(DOCS / 'make_layers_page.py'))['page']()
    assert (DOCS / 'layers.md').read_text() == page, 'run: python docs/make_layers_page.py'
