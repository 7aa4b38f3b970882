"""Split layers for blobs that several layers read (insert_splits.cpp).

A blob with two readers gets two diffs, which have to be summed. Caffe puts a Split layer after its producer and renames
the bottoms of the readers; names as in Caffe: `conv5_conv5_relu_0_split_1`.
"""

from __future__ import annotations

from collections import defaultdict

from caffe.proto import caffe_pb2


def insert_splits(layers: list[caffe_pb2.LayerParameter]) -> list[tuple[caffe_pb2.LayerParameter, int]]:
    """The layers with Split layers put in, each with the index of the layer that it is or that it follows.

    The given messages are not changed.
    """
    producer: dict[str, tuple[int, int]] = {}  # blob name -> (layer, top) that made it last
    source: dict[tuple[int, int], tuple[int, int]] = {}  # (layer, bottom) -> (layer, top) that it reads
    readers: dict[tuple[int, int], int] = defaultdict(int)
    loss_weight: dict[tuple[int, int], float] = {}
    for i, layer in enumerate(layers):
        for j, name in enumerate(layer.bottom):
            if name in producer:  # the net refuses unknown ones, it knows the line
                source[i, j] = producer[name]
                readers[producer[name]] += 1
        for j, name in enumerate(layer.top):
            producer[name] = (i, j)
    for i, layer in enumerate(layers):
        for j, weight in enumerate(layer.loss_weight[: len(layer.top)]):
            if weight and readers[i, j]:
                # The loss is one more reader of this top. It gets a top of the Split, which has the loss weight.
                loss_weight[i, j] = weight
                readers[i, j] += 1

    placed = []
    used: dict[tuple[int, int], int] = defaultdict(int)
    for i, layer in enumerate(layers):
        layer_copy = caffe_pb2.LayerParameter()
        layer_copy.CopyFrom(layer)
        for j in range(len(layer.bottom)):
            top = source.get((i, j))
            if top is not None and readers[top] > 1:
                layer_copy.bottom[j] = split_blob_name(layers[top[0]].name, layer.bottom[j], top[1], used[top])
                used[top] += 1
        placed.append((layer_copy, i))
        for j, name in enumerate(layer.top):
            if readers[i, j] > 1:
                split = _split_layer(layer.name, name, j, readers[i, j], loss_weight.get((i, j), 0.0))
                if (i, j) in loss_weight:
                    layer_copy.loss_weight[j] = 0
                    used[i, j] += 1
                placed.append((split, i))
    return placed


def split_layer_name(layer: str, blob: str, top_index: int) -> str:
    return f'{blob}_{layer}_{top_index}_split'


def split_blob_name(layer: str, blob: str, top_index: int, split_index: int) -> str:
    return f'{split_layer_name(layer, blob, top_index)}_{split_index}'


def _split_layer(layer: str, blob: str, top_index: int, count: int, weight: float) -> caffe_pb2.LayerParameter:
    split = caffe_pb2.LayerParameter(name=split_layer_name(layer, blob, top_index), type='Split', bottom=[blob])
    for k in range(count):
        split.top.append(split_blob_name(layer, blob, top_index, k))
        if weight:
            split.loss_weight.append(weight if k == 0 else 0.0)
    return split
