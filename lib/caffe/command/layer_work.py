"""The work (caffe.work) of the layers of a net as it stands."""

from __future__ import annotations

from caffe import work
from caffe.layer import Layer
from caffe.net import Net


def layer_shapes(net: Net) -> list[work.LayerShapes]:
    """For each layer of the net, what its work depends on."""
    return [
        work.LayerShapes(
            layer.layer_param,
            [net.blobs[b].shape for b in bottoms],
            [net.blobs[t].shape for t in tops],
            [p.shape for p in layer.blobs],
        )
        # not by name: two layers may have one
        for layer, bottoms, tops in zip(net.layers, net._bottom_blob_names, net._top_blob_names, strict=True)
    ]


def is_inserted_split(layer: Layer) -> bool:
    """Whether the net put this Split in itself (splits.py): it is in no prototxt and does no work."""
    return layer.type == 'Split' and layer.name.endswith('_split')
