"""Layer types and fields of prototxts that forks of Caffe have: what to say of a name that is unknown here.

Most unknown names are not misspelt: they belong to a fork. So a name is looked up here first. Only a name that no fork
has is compared with those that exist.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

STAND_IN = (
    'A Python layer can stand in for a layer type: type: "Python" python_param { module: "my_layers" layer: "MyLayer" '
    'param_str: "..." }, a class derived from caffe.Layer with setup, reshape, forward and backward'
)

MOST = 10
"""How many unknown names, and how many lines of each, are shown."""

# Whose Caffe, where it is published, and what its caffe.proto and its layers have beyond BVLC's
_FORKS = (
    (
        "SSD's Caffe (weiliu89/caffe, branch ssd)",
        'AnnotatedData DetectionEvaluate VideoData',
        """annotated_data_param detection_evaluate_param video_data_param resize_param noise_param distort_param
        expand_param emit_constraint plateau_winsize""",
    ),
    ('Caffes with PSROIAlign (fallingdust/caffe-fast-rcnn and others)', 'PSROIAlign', 'psroi_align_param'),
    (
        "MNC's Caffe (daijifeng001/caffe-mnc)",
        'ROIWarping MaskPooling MaskResize',
        'roi_warping_param mask_resize_param',
    ),
    ('Caffes with focal loss (laycoding/caffe_focal_loss and others)', 'FocalLoss', 'focal_loss_param'),
    ('Caffes with the triplet loss', 'TripletLoss', 'triplet_loss_param'),
    ("Deformable ConvNets' Caffes", 'DeformableConvolution', 'deformable_convolution_param'),
    (
        'Caffes with YOLO (eric612/MobileNet-YOLO and others)',
        'Region RegionLoss Reorg Yolov3 YoloDetectionOutput Yolov3DetectionOutput EvalDetection DetectionLoss BoxData',
        """region_param region_loss_param reorg_param yolov3_param yolo_detection_output_param
        yolov3_detection_output_param eval_detection_param detection_loss_param box_data_param""",
    ),
    (
        "DeepLab's Caffe (deeplab-public-ver2)",
        'ImageSegData MatRead MatWrite DenseCRF SegAccuracy UniqueLabel',
        'mat_read_param mat_write_param dense_crf_param seg_accuracy_param unique_label_param',
    ),
    (
        "SegNet's Caffe (alexgkendall/caffe-segnet)",
        'Upsample DenseImageData',
        'upsample_param dense_image_data_param weight_by_label_freqs class_weighting sample_weights_test',
    ),
    (
        "FlowNet's Caffe (lmb-freiburg/flownet2)",
        """Accum ChannelNorm Correlation Correlation1D CustomData DataAugmentation Downsample FlowAugmentation FlowWarp
        GenerateAugmentationParameters L1Loss Mean Resample""",
        """accum_param augmentation_param correlation_param downsample_param flow_warp_param l1_loss_param mean_param
        resample_param""",
    ),
    ("OpenPose's Caffe", 'ImResize Nms CPMData', 'imresize_param nms_param cpm_transform_param'),
    ("CRF-RNN's Caffe (torrvision/crfasrnn)", 'MultiStageMeanfield', 'multi_stage_meanfield_param'),
    ("DeconvNet's Caffe (HyeonwooNoh/caffe)", 'Unpooling', 'unpooling_param'),
    ("HED's Caffe (s9xie/hed)", 'ImageLabelmapData', ''),
    ("the center loss's Caffe (ydwen/caffe-face)", 'CenterLoss', 'center_loss_param'),
    ("SphereFace's Caffe (wy1iu/sphereface)", 'MarginInnerProduct', 'margin_inner_product_param'),
    ('Caffes with spatial transformers', 'SpatialTransformer', 'st_param'),
    ('Caffes with CTC', 'CtcLoss CTCLoss WarpCTC CTCGreedyDecoder', 'ctc_loss_param ctc_decoder_param'),
    (
        "NVIDIA's Caffe (NVIDIA/caffe)",
        'DetectNetTransformation',
        """detectnet_groundtruth_param detectnet_augmentation_param forward_type backward_type default_forward_type
        default_backward_type global_grad_scale solver_data_type""",
    ),
)

# What else than a stand-in of one's own can take the place of a type
_INSTEAD = {
    'AnnotatedData': 'in its place an Input layer can stand that the program fills, or a Python layer, with the tops '
    'data (N, 3, H, W) and label (1, 1, G, 8), a row an object: image, class, instance, x1, y1, x2, y2 (0 to 1), '
    'difficult',
    'DetectionEvaluate': 'leave it out, and judge the rows of DetectionOutput (image, class, score, box) afterwards',
    'ImageLabelmapData': 'in its place a Python layer can stand that gives data (N, 3, H, W) and label (N, 1, H, W)',
}

_OF_TYPE: dict[str, str] = {name: fork for fork, types, _ in _FORKS for name in types.split()}
_OF_FIELD: dict[str, str] = {name: fork for fork, _, fields in _FORKS for name in fields.split()}


def type_hint(name: str, known: Iterable[str]) -> str:
    """What to say after an unknown layer type: who has it, or which of the `known` is nearly it; '' if nobody."""
    if name in _OF_TYPE:
        return f': {_OF_TYPE[name]} has it' + (f'; {_INSTEAD[name]}' if name in _INSTEAD else '')
    near = nearest(name, known, 0.7)
    return f'; did you mean {near!r}?' if near else ''


def field_hint(name: str, known: Iterable[str]) -> str:
    """What to say after an unknown field of a prototxt, as `type_hint` does."""
    if name in _OF_FIELD:
        return f': {_OF_FIELD[name]} has it'
    near = nearest(name, known)
    return f'; did you mean "{near}"?' if near else ''


def nearest(name: str, known: Iterable[str], cutoff: float = 0.65) -> str | None:
    """The one of the known names that is most like this one, of those that begin with it or are like it enough.

    cutoff: of difflib's ratio. The ending _param, which says nothing, is compared only if it is not spelt right.
    """
    core, ending = name.lower().removesuffix('_param'), '_param' if name.lower().endswith('_param') else ''
    by_core = {each.lower().removesuffix(ending): each for each in known}
    near = difflib.get_close_matches(core, by_core, n=1, cutoff=cutoff)
    near = near or [each for each in by_core if len(core) > 2 and each.startswith(core)]  # Conv, Pool
    return by_core[near[0]] if near else None


def listed(unknown: Mapping[str, Sequence[int]]) -> str:
    """Lines of a message: what is unknown, each with the lines of the file on which it stands, the first first."""
    rows = sorted(unknown.items(), key=lambda row: row[1][0])
    lines = [f'\n  line{"s" * (len(at) > 1)} {_numbers(at)}: {what}' for what, at in rows[:MOST]]
    return ''.join(lines) + (f'\n  and {len(rows) - MOST} more' if len(rows) > MOST else '')


def _numbers(lines: Sequence[int]) -> str:
    return ', '.join(map(str, lines[:MOST])) + (f' and {len(lines) - MOST} more' if len(lines) > MOST else '')
