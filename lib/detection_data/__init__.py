"""Data sets: images, ground truth, region proposals and evaluation.

`factory.get_imdb(name)` is the way in; it returns an `imdb` (see `imdb.py`) that reads each image's
annotation and proposals when asked, so a data set of any size costs little memory.

    imdb.py              the interface, and sets joined by '+'
    factory.py           names -> imdb
    pascal_voc.py        folders in PASCAL VOC layout, and their annotation files
    coco.py              annotation files in COCO's format, and COCO's evaluation
    voc_eval.py          average precision, as in the VOC development kit
    curves.py            precision-recall curves as a picture
    labels.py            what a label must be, for all formats: accepted, put right or refused
    image_file.py        reading an image
    findings.py          what is wrong with a data set
    proposals.py         the file that holds the proposals of a data set
    proposal_methods.py  computing proposals: selective search, edge boxes, random boxes
    proposals_mat.py     published .mat files: selective search for VOC, MCG for COCO
    mat_file.py          MATLAB files, read so that a damaged one harms nothing
    hdf5_trial.py        whether an HDF5 file can be read, tried where a crash is caught
    recall.py            how much of the ground truth proposals cover
    family_names.py      the same modules as `datasets.factory` and so on, beside another package `datasets`

Boxes are (x1, y1, x2, y2) in pixels, 0-based, both corners inside the box. This package imports neither torch
nor caffe nor the detector.
"""

from detection_data import family_names

family_names.make_known()
