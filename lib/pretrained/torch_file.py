"""Files that torch.save wrote. They are pickles: read by torch's reader that makes tensors and nothing else."""

from __future__ import annotations

import pickle
import re
import warnings

import numpy as np

from pretrained import WeightsError

# What training scripts keep the weights under, beside what else they keep
_WITHIN = ('state_dict', 'model_state_dict', 'model', 'state_dict_ema')
_PARALLEL = 'module.'  # in front of the names of a net that several GPUs trained


def read_torch_file(path: str) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name, float32. Raises WeightsError, ImportError without torch."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r'(?:GLOBAL|Unsupported class) (\S+)', str(error))  # torch 2.2 says the latter
        if wanted:
            raise WeightsError(
                f'{path}: it holds more than tensors ({wanted[1]}), and to read that is to run what the file says: '
                'save the state_dict() of the net alone'
            ) from None
        raise WeightsError(f'{path}: not a file that torch.save wrote, or one that wants to run code') from None
    except Exception as error:  # of whatever kind: damaged bytes reach far into torch's reader
        raise WeightsError(
            f'{path}: not a file that torch.save wrote, or a damaged one ({type(error).__name__}: {_first_line(error)})'
        ) from None
    for key in _WITHIN:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise WeightsError(f'{path}: it holds a {type(content).__name__}, expected a state dict: tensors by name')
    tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    try:
        return {
            name.removeprefix(_PARALLEL): tensor.detach().to(torch.float32).numpy()
            for name, tensor in tensors.items()
            if tensor.is_floating_point()
        }
    except (TypeError, RuntimeError, NotImplementedError) as error:  # sparse, quantised, or without any numbers
        raise WeightsError(f'{path}: its tensors are not plain arrays ({_first_line(error)})') from None


def _first_line(error: Exception) -> str:
    said = str(error).strip()
    return ' '.join(said.split('\n')[0].split())[:200]
