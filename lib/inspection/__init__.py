"""Inspection: what a run learned from and what went wrong, as numbers, pictures and pages.

Looks at the detector from outside: it imports `fast_rcnn`, `roi_data_layer` and the data sets, and none of them
imports it. Training and testing run without it.

    hard_rois.py         what was mined of a mini-batch, and what became of each RoI
    report.py            the same as a page to explore (template: report.html)
    draw.py              RoIs and detections drawn on an image
    curves.py            curves of training runs, out of their records
    detection_errors.py  a test set's mistakes, sorted
    error_pictures.py    pictures of them
"""
