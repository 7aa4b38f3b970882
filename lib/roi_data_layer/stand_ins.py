"""The stand-in layers by the name that rewritten prototxts of earlier runs have; they are in `caffe_stand_ins`."""

from caffe_stand_ins.layers import RoIPooling, SmoothL1Loss

__all__ = ['RoIPooling', 'SmoothL1Loss']
