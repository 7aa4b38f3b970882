"""Which layers of a net predict scores and boxes, and whether they predict as many as the data set has classes."""

import math
import re

import caffe
from fast_rcnn.config import cfg

# R-FCN pools these blobs out of maps, and the layers that make the maps have the weights
_POOLED = {'cls_score': 'rfcn_cls', 'bbox_pred': 'rfcn_bbox'}


def layer_of(net: caffe.Net, top: str) -> str | None:
    """The layer with parameters that makes the blob `top`: the one of that name, or whichever has it as its top.

    Of R-FCN's nets it is the one whose maps are pooled to be `top`.
    """
    if top in net.params:
        return top
    if _POOLED.get(top) in net.params:
        return _POOLED[top]
    tops = getattr(net, 'top_names', {})  # a pycaffe too old to name the tops of layers has the former alone
    return next((name for name, blobs in tops.items() if top in blobs and name in net.params), None)


def note_classes(error: Exception, text: str, classes: int | None) -> None:
    """Adds a note to what making a net raised, where its Python layers are for another number of classes.

    text: the net's prototxt. classes: of the data set, background included; None if that is not known.
    """
    stated = {int(number) for number in re.findall(r'num_classes["\']?\s*:\s*(\d+)', text)}
    wrong = sorted(stated - {classes, 2 if cfg.TRAIN.AGNOSTIC else classes})
    if classes is None or not wrong:
        return
    note = (
        f'param_str says num_classes {" and ".join(map(str, wrong))}, the data set has {classes} classes with the '
        'background: correct num_classes, and num_output of cls_score and bbox_pred'
    )
    # as add_note does from Python 3.11 on; in 3.10 the tools print these notes themselves
    vars(error)['__notes__'] = [*getattr(error, '__notes__', []), note]


def check_outputs(net: caffe.Net, top: str, classes: int | None, each: int) -> None:
    """Raises ValueError if the layer that makes `top` has other than `each` outputs a class.

    classes: how many there are, background included; None if that is not known. A layer whose maps R-FCN pools has so
    many outputs for each of its bins, whose number is a square.
    """
    name = layer_of(net, top)
    if name is None or classes is None:
        return
    outputs, needed = net.params[name][0].data.shape[0], each * classes
    is_pooled = name in _POOLED.values()
    bins = outputs // needed if is_pooled else 1
    if outputs == needed * bins and bins == math.isqrt(bins) ** 2 > 0:
        return
    why = f'the data set has {classes} classes with the background'
    if each == 4 and cfg.TRAIN.AGNOSTIC:
        why = 'with TRAIN.AGNOSTIC True the net predicts a box for background and one for any object,'
    of_bins = ' for each bin of the position-sensitive pooling' if is_pooled else ''
    raise ValueError(
        f"the net's {name} has {outputs} outputs, but {why} and needs {needed}{of_bins}. "
        f'Correct num_output of {name}, and num_classes.'
    )
