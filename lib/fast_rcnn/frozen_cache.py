"""cfg.TRAIN.FROZEN_CACHE_GIB and _DIR: what frozen layers make of an image is computed once, not in every epoch."""

from typing import Any

import caffe
from fast_rcnn.config import ConfigError, cfg
from roi_data_layer.augmentation import is_on


def keep_frozen(net: caffe.Net) -> Any:
    """Has `net` keep it, where the setting asks for that, and says so. Returns the net's record of it, or None.

    Raises ConfigError where no image would come round twice as the same numbers, and where this Caffe or this net
    cannot do it, and for a folder where no files can be made.
    """
    gib, folder = cfg.TRAIN.FROZEN_CACHE_GIB, cfg.TRAIN.FROZEN_CACHE_DIR
    if folder and not gib:
        raise ConfigError(f'TRAIN.FROZEN_CACHE_DIR is {folder}: say how much may be there, by TRAIN.FROZEN_CACHE_GIB')
    if not gib:
        return None
    why_not = None
    if not hasattr(net, 'keep_frozen'):
        why_not = 'it needs the Caffe that comes with this detector, and this one is another'
    elif is_on():
        why_not = 'TRAIN.AUGMENT changes images each time they are shown, so none comes round as it was'
    elif cfg.TRAIN.IMS_PER_BATCH > 1:
        why_not = (
            f'TRAIN.IMS_PER_BATCH is {cfg.TRAIN.IMS_PER_BATCH}, and the same images hardly meet in a mini-batch twice; '
            'take 1, with iter_size in the solver'
        )
    else:
        try:
            kept = net.keep_frozen(gib, folder or None)
        except ValueError as error:
            why_not = str(error)
        except OSError as error:
            raise ConfigError(
                f'TRAIN.FROZEN_CACHE_DIR is {folder}: no files can be kept there ({error.strerror or error})'
            ) from error
    if why_not is not None:
        raise ConfigError(f'TRAIN.FROZEN_CACHE_GIB is {gib:g}: {why_not}. Change that, or set it to 0')
    where = f'of {folder}' if folder else 'of memory'
    print(
        f'Frozen layers {kept.first} to {kept.last}: what they make of each image is kept in up to {gib:g} GiB {where}'
    )
    return kept


def describe(kept: Any) -> str:
    """How often that served, in a line."""
    return (
        f'Frozen layers {kept.first} to {kept.last}: computed in {kept.misses} passes, kept from earlier ones in '
        f'{kept.hits}; {kept.nbytes / 2**30:.2f} GiB'
    )
