"""Data sets: images, ground truth, region proposals and the PASCAL VOC evaluation.

``factory.get_imdb(name)`` is the way in; it returns an ``imdb`` (see ``imdb.py``) that reads each image's
annotation and proposals when asked, so a data set of any size costs little memory.

    imdb.py              the interface, and sets joined by '+'
    factory.py           names -> imdb
    pascal_voc.py        folders in PASCAL VOC layout, and their annotation files
    voc_eval.py          average precision, as in the VOC development kit
    proposals.py         the file that holds the proposals of a data set
    proposal_methods.py  computing proposals: selective search, random boxes
    proposals_mat.py     the .mat files published with Fast R-CNN

Boxes are (x1, y1, x2, y2) in pixels, 0-based, both corners inside the box. This package imports neither torch
nor caffe nor the detector.
"""
