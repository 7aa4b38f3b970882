"""Whether all ranks of a training start from the same: files, settings, data, weights, programs."""

import hashlib
import importlib.metadata
import platform

import numpy as np

import caffe
import ranks
from fast_rcnn.config import cfg
from roi_data_layer.roidb import Roidb

_MAY_DIFFER = ('GPU_ID', 'ROOT_DIR', 'DATA_DIR', 'MODELS_DIR')
_PROGRAMS = ('numpy', 'torch', 'opencv-contrib-python-headless', 'protobuf')


class DisagreementError(ValueError):
    """Ranks that would not do the same job; the message names what differs."""


def check_agreement(facts: dict[str, str]) -> None:
    """Compares `facts`, name -> text, with the settings and programs, over all ranks. All have to call it.

    Raises DisagreementError, at every rank, for the first rank that differs from rank 0 and all that differs there.
    """
    if ranks.count() == 1:
        return
    mine = {**facts, **_settings(), **_programs()}
    first, *others = ranks.share({'host': ranks.place().host, 'facts': mine})
    for number, other in enumerate(others, start=1):
        names = dict.fromkeys([*first['facts'], *other['facts']])
        differing = [
            f'{name} ({first["facts"].get(name, "none")}; {other["facts"].get(name, "none")})'
            for name in names
            if first['facts'].get(name) != other['facts'].get(name)
        ]
        if differing:
            raise DisagreementError(
                f'rank 0 on {first["host"]} and rank {number} on {other["host"]} do not start from the same: '
                f'{", ".join(differing)}. Give all ranks the same files, flags and programs'
            )


def digest_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_of_weights(net: caffe.Net) -> str:
    """A digest of all parameters of a net, in the order of its layers."""
    digest = hashlib.sha256()
    for name, blobs in net.params.items():
        for k in range(len(blobs)):
            digest.update(f'{name}/{k}'.encode())
            digest.update(np.ascontiguousarray(blobs[k].data).tobytes())
    return digest.hexdigest()[:16]


def digest_of_roidb(roidb: Roidb) -> str:
    """A digest of the training set: its name, length, what is known of each image without reading it, its labels."""
    parts = [str(getattr(roidb, 'name', '')), str(len(roidb))]
    parts += [
        hashlib.sha256(np.asarray(getattr(roidb, name, ())).tobytes()).hexdigest() for name in ('widths', 'heights')
    ]
    parts += [str(getattr(roidb, 'bbox_means', '')), str(getattr(roidb, 'bbox_stds', ''))]
    parts += [roidb.digest()] if hasattr(roidb, 'digest') else []  # each rank's own; it was told the rest by others
    return digest_of_text('\n'.join(parts))


def _settings(section: dict | None = None, prefix: str = '') -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in (cfg if section is None else section).items():
        if isinstance(value, dict):
            flat |= _settings(value, f'{prefix}{key}.')
        elif key not in _MAY_DIFFER:
            flat[f'{prefix}{key}'] = str(np.asarray(value).tolist())
    return flat


def _programs() -> dict[str, str]:
    versions = {'Python': platform.python_version()}
    for name in _PROGRAMS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = 'not installed'
    return versions
