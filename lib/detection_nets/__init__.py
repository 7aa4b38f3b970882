"""Detection nets written by a program: a backbone's trunk, and what Fast R-CNN, Faster R-CNN and R-FCN put on it.

`models/make_nets.py` writes those in models/ with it. Nothing is computed here: the result is the text of a prototxt.
"""
