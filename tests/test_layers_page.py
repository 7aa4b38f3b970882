"""docs/layers.md says what the registry, caffe.proto and the tests say."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / 'docs'


def test_the_page_is_up_to_date():
    page = runpy.run_path(str(DOCS / 'make_layers_page.py'))['page']()
    assert (DOCS / 'layers.md').read_text() == page, 'run: python docs/make_layers_page.py'


def test_every_type_with_a_gradient_has_it_checked():
    lines = (DOCS / 'layers.md').read_text().splitlines()
    rows = [line.split(' | ') for line in lines if line.startswith('| [')]
    assert len(rows) > 60
    assert [row[0] for row in rows if not row[4].strip()] == []


def test_the_tests_that_are_named_check_that_type():
    """The scan of the sources finds what it should in a test file like those here."""
    types_checked = runpy.run_path(str(DOCS / 'make_layers_page.py'))['types_checked']
    text = """
CASES = {'a': 'type: "ReLU"'}
OTHER = 'type: "ELU"'
def helper(): return 'type: "Power"'
@pytest.mark.parametrize('kind', ['Scale'])
def test_gradient(kind):
    check_gradient(CASES['a']); check_gradient(helper()); check_gradient(f'type: "{kind}"')
def test_forward():
    run_layer('type: "TanH"')
"""
    found = types_checked(text)
    assert {'ReLU', 'Power', 'Scale'} <= found and not {'ELU', 'TanH'} & found
