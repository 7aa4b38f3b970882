"""The work (caffe.work) of the layers of a net as it stands."""

from __future__ import annotations

from caffe import work
from caffe.layer import Layer
from caffe.net import Net


def layer_shapes(net: Net) -> list[work.LayerShapes]:
    """For each layer of the net, what its work depends on."""
    return [
        work.LayerShapes(
            node.layer.layer_param,
            [net.blobs[name].shape for name in node.bottom_names],
            [net.blobs[name].shape for name in node.top_names],
            [p.shape for p in node.layer.blobs],
        )
        for node in net.nodes
    ]


def is_inserted_split(layer: Layer) -> bool:
    """Whether the net put this Split in itself (splits.py): it is in no prototxt and does no work."""
    return layer.type == 'Split' and layer.name.endswith('_split')
