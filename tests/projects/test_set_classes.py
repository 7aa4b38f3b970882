"""A net for another number of classes: its text changes where classes are counted, and nowhere else."""

from pathlib import Path

import pytest

from projects.set_classes import SetClassesError, set_classes

MODELS = Path(__file__).parents[2] / 'models'
# but those of R-FCN, which are refused: their classes are in the number of their maps
NETS = sorted(p for p in MODELS.rglob('t*.prototxt') if not p.parent.name.startswith('rfcn'))


@pytest.mark.parametrize('path', NETS, ids=lambda p: str(p.relative_to(MODELS)))
def test_there_and_back_is_the_same_text(path):
    text = path.read_text()
    count = {'pascal_voc': 21, 'coco': 81, 'demo': 5, 'bccd': 4}[path.relative_to(MODELS).parts[0]]
    other = set_classes(text, 8)
    assert other != text
    assert set_classes(other, count) == text


def test_what_changes():
    text = """layer { name: "cls_score" inner_product_param { num_output: 3 } } # 3
layer { name: "bbox_pred" inner_product_param { num_output: 12 } }
layer { name: "fc" inner_product_param { num_output: 3 } }
layer { name: "data" python_param { param_str: "'num_classes': 3" } }"""
    assert (
        set_classes(text, 5)
        == """layer { name: "cls_score" inner_product_param { num_output: 5 } } # 3
layer { name: "bbox_pred" inner_product_param { num_output: 20 } }
layer { name: "fc" inner_product_param { num_output: 3 } }
layer { name: "data" python_param { param_str: "'num_classes': 5" } }"""
    )


def test_layers_that_disagree_are_named():
    text = 'layer { name: "cls_score" p { num_output: 3 } } layer { name: "bbox_pred" p { num_output: 16 } }'
    with pytest.raises(SetClassesError, match='n: its layers are not for one number of classes: num_output of cls_s'):
        set_classes(text, 5, 'n')


def test_a_net_without_classes():
    with pytest.raises(SetClassesError, match='not a detection net'):
        set_classes('layer { name: "conv" }', 5)
