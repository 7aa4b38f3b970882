"""Arithmetic on tensors, and where in memory and by which library it is done.

What is here knows nothing of prototxts, blobs, layers or nets, and imports nothing of caffe but its neighbours
(tests/test_structure.py). Bad values raise ValueError. A layer checks them before, and raises with Caffe's wording.
"""
