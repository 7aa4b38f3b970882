"""Stand-ins for layer types that a Caffe may lack: ROIPooling and SmoothL1Loss, which stock BVLC Caffe does not have.

    layers.py    the two types as Python layers, in NumPy
    prototxt.py  a net's prototxt rewritten to use them, where `caffe.layer_type_list()` lacks the type

The engine of this project has both types, and nets on it are not rewritten.
"""
