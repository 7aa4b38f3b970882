"""VGG16 and VGG_CNN_M_1024 straight in torch, with autograd and torch.optim: the yardstick of bench.py.

Nobody chose kernels or counted bytes here; it is what one writes first. The numbers that it learns from are
those of our data layer and our mining.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fast_rcnn.config import cfg
from roi_data_layer.mining import mine_hard_rois, roi_losses


def _vgg16() -> tuple[nn.Sequential, int]:
    layers, channels = [], 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        if channels > 3:
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
    return nn.Sequential(*layers), 10  # conv1_1 ... conv2_2 with what stands between them


def _vgg_m() -> tuple[nn.Sequential, int]:
    def norm_pool():
        return nn.LocalResponseNorm(5, 0.0005, 0.75, 2.0), nn.MaxPool2d(3, 2, ceil_mode=True)

    layers = [nn.Conv2d(3, 96, 7, 2), nn.ReLU(inplace=True), *norm_pool()]
    layers += [nn.Conv2d(96, 256, 5, 2, 1), nn.ReLU(inplace=True), *norm_pool()]
    for channels in (256, 512, 512):
        layers += [nn.Conv2d(channels, 512, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers), 4  # conv1


_NETS = {'VGG16': (_vgg16, 7, 4096), 'VGG_CNN_M_1024': (_vgg_m, 6, 1024)}


def roi_pool(x: torch.Tensor, rois: torch.Tensor, pooled: int) -> torch.Tensor:
    """(R, C, pooled, pooled): torch's adaptive pooling has Fast R-CNN's bins."""
    last = rois.new_tensor([x.shape[3] - 1, x.shape[2] - 1] * 2)
    corners = torch.minimum((rois[:, 1:] / 16).round(), last).long().tolist()
    images = rois[:, 0].long().tolist()
    return torch.stack(
        [
            F.adaptive_max_pool2d(x[n, :, y1 : max(y2, y1) + 1, x1 : max(x2, x1) + 1], pooled)
            for n, (x1, y1, x2, y2) in zip(images, corners, strict=True)
        ]
    )


class DirectNet(nn.Module):
    """Fast R-CNN. The first convolutions are frozen, as in the prototxts."""

    def __init__(self, name: str, num_classes: int = 21):
        super().__init__()
        make, self.pooled, width = _NETS[name]
        trunk, frozen = make()
        self.frozen, self.trunk = trunk[:frozen], trunk[frozen:]
        self.fc6 = nn.Linear(512 * self.pooled**2, 4096)
        self.fc7 = nn.Linear(4096, width)
        self.cls_score, self.bbox_pred = nn.Linear(width, num_classes), nn.Linear(width, 4 * num_classes)
        for param in self.frozen.parameters():
            param.requires_grad = False

    def features(self, data: torch.Tensor) -> torch.Tensor:
        """(N, 512, H / 16, W / 16) of images (N, 3, H, W)."""
        with torch.no_grad():
            data = self.frozen(data)
        return self.trunk(data)

    def head(self, x: torch.Tensor, rois: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Class scores (R, K) and box shifts (R, 4K)."""
        y = roi_pool(x, rois, self.pooled).flatten(1)
        for layer in (self.fc6, self.fc7):
            y = F.dropout(F.relu(layer(y)))
        return self.cls_score(y), self.bbox_pred(y)


def train_pass(net: DirectNet, blobs: dict[str, np.ndarray]) -> None:
    """Adds the gradients of one mini-batch; with cfg.TRAIN.USE_OHEM those of its hardest RoIs."""
    device = next(net.parameters()).device
    x = net.features(torch.from_numpy(blobs['data']).to(device))
    rest = [blobs[k] for k in ('rois', 'labels', 'bbox_targets', 'bbox_inside_weights', 'bbox_outside_weights')]
    if cfg.TRAIN.USE_OHEM:
        with torch.no_grad():
            scores, shifts = net.head(x, torch.from_numpy(rest[0]).to(device))
        losses = roi_losses(F.softmax(scores, dim=1).cpu().numpy(), rest[1], shifts.cpu().numpy(), *rest[2:])
        kept = mine_hard_rois(sum(losses), rest[0], rest[1], cfg.TRAIN.BATCH_SIZE, 0.7)
        rest = [array[kept] for array in rest]
    rois, labels, targets, inside, outside = (torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in rest)
    scores, shifts = net.head(x, rois)
    weighted = F.smooth_l1_loss(shifts * inside, targets * inside, reduction='none') * outside
    (F.cross_entropy(scores, labels.long()) + weighted.sum() / len(rois)).backward()


def optimizer(net: DirectNet) -> torch.optim.Optimizer:
    """SGD as the solver prototxts have it."""
    learning = [param for param in net.parameters() if param.requires_grad]
    return torch.optim.SGD(learning, lr=0.001, momentum=0.9, weight_decay=0.0005)
