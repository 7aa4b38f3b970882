"""The network that classifies RoIs: once in a plain net, twice in one with OHEM, whose read-only copy scores all."""

from __future__ import annotations

import dataclasses
from typing import Any

from detection_nets.prototxt import BIAS, WEIGHTS, Prototxt

_READ_ONLY = '_readonly'


@dataclasses.dataclass(frozen=True)
class Copy:
    """Which copy of the RoI network layers are made for.

    shared: parameters have names, by which the two copies are one. read_only: it has no backward pass, and its layers
    and blobs are called `..._readonly`.
    """

    shared: bool = False
    read_only: bool = False

    def name(self, name: str) -> str:
        """What a layer or blob is called in this copy."""
        return name + _READ_ONLY if self.read_only and not name.endswith(_READ_ONLY) else name

    def add(
        self,
        net: Prototxt,
        name: str,
        kind: str,
        bottoms: str | list[str],
        tops: str | None = None,
        params: list[dict] | None = None,
        **options: Any,
    ) -> str:
        """A layer of this copy; bottoms and tops are the blobs' names as they are. See `Prototxt.add`."""
        if params and self.shared:
            names = [f'{name}_{i}' for i in range(len(params))]
            learning = [{}] * len(params) if self.read_only else params
            params = [{'name': n, **p} for n, p in zip(names, learning, strict=True)]
        return net.add(self.name(name), kind, bottoms, tops, params, self.read_only, **options)

    def roi_pooling(self, net: Prototxt, name: str, maps: str, rois: str, size: int, stride: int) -> str:
        """ROIPooling to `size` x `size` of maps whose cells are `stride` pixels apart."""
        options = {'pooled_w': size, 'pooled_h': size, 'spatial_scale': 1 / stride}
        if self.read_only:
            return self.add(net, name, 'ROIPooling', [maps, rois], roi_pooling_param=options)
        down: dict[str, Any] = {'propagate_down': [True, False]} if net.training else {}
        return net.add(name, 'ROIPooling', [maps, rois], roi_pooling_param=options, **down)

    def inner_product(self, net: Prototxt, name: str, bottom: str, outputs: int, std: float) -> str:
        """A fully connected layer that starts from random weights of deviation `std`."""
        options = {
            'num_output': outputs,
            'weight_filler': {'type': 'gaussian', 'std': std},
            'bias_filler': {'type': 'constant', 'value': 0},
        }
        return self.add(net, name, 'InnerProduct', bottom, params=[WEIGHTS, BIAS], inner_product_param=options)
