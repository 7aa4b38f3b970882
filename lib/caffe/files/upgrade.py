"""Old nets and solvers, brought to today's form: what Caffe's src/caffe/util/upgrade_proto.cpp does.

Caffe has had three forms of a layer. V0 was `layers { layer { type: "conv" } }`, V1 was `layers { type:
CONVOLUTION }`, V2, today's, is `layer { type: "Convolution" }`. Each function here takes a message, leaves it
as it is, and returns the new one with notes that say in words what was old; without notes there was nothing
to do. What cannot be upgraded raises UpgradeError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from google.protobuf.message import Message

from caffe.proto import caffe_pb2

V1 = caffe_pb2.V1LayerParameter


class UpgradeError(ValueError):
    """A net or solver in an old form that has no meaning in the new one."""


class Upgrade(NamedTuple):
    """A message in the new form, and one sentence for each old thing that it had."""

    message: Message
    notes: list[str]

    @property
    def changed(self) -> bool:
        return bool(self.notes)


def upgrade_net(net: Message) -> Upgrade:
    """Upgrades a NetParameter of any age, in the order of UpgradeNetAsNeeded.

    All layers of the result are in `layer`. One Input layer may be new at the front, and V0 padding layers
    are gone; the others keep their order. Raises UpgradeError.
    """
    steps = upgrade_v0, upgrade_data_transformation, upgrade_v1, upgrade_input, upgrade_batch_norm, upgrade_rfcn
    return _in_turn(net, *steps)


def _in_turn(message: Message, *steps: Callable[[Message], Upgrade]) -> Upgrade:
    notes = []
    for step in steps:
        message, new = step(message)
        notes += new
    return Upgrade(message, notes)


def _copy(message: Message) -> Message:
    new = type(message)()
    new.CopyFrom(message)
    return new


# ---- V0 to V1

V0_TYPES = {
    'accuracy': V1.ACCURACY,
    'bnll': V1.BNLL,
    'concat': V1.CONCAT,
    'conv': V1.CONVOLUTION,
    'data': V1.DATA,
    'dropout': V1.DROPOUT,
    'euclidean_loss': V1.EUCLIDEAN_LOSS,
    'flatten': V1.FLATTEN,
    'hdf5_data': V1.HDF5_DATA,
    'hdf5_output': V1.HDF5_OUTPUT,
    'im2col': V1.IM2COL,
    'images': V1.IMAGE_DATA,
    'infogain_loss': V1.INFOGAIN_LOSS,
    'innerproduct': V1.INNER_PRODUCT,
    'lrn': V1.LRN,
    'multinomial_logistic_loss': V1.MULTINOMIAL_LOGISTIC_LOSS,
    'pool': V1.POOLING,
    'relu': V1.RELU,
    'sigmoid': V1.SIGMOID,
    'softmax': V1.SOFTMAX,
    'softmax_loss': V1.SOFTMAX_LOSS,
    'split': V1.SPLIT,
    'tanh': V1.TANH,
    'window_data': V1.WINDOW_DATA,
}

# The V1 message that holds the settings of a V0 type.
V0_SETTINGS = {
    'concat': 'concat_param',
    'conv': 'convolution_param',
    'data': 'data_param',
    'dropout': 'dropout_param',
    'hdf5_data': 'hdf5_data_param',
    'images': 'image_data_param',
    'infogain_loss': 'infogain_loss_param',
    'innerproduct': 'inner_product_param',
    'lrn': 'lrn_param',
    'pool': 'pooling_param',
    'window_data': 'window_data_param',
}

# V0 field: (its name in V1, the V0 types that have it).
V0_FIELDS = {
    'num_output': ('num_output', ('conv', 'innerproduct')),
    'biasterm': ('bias_term', ('conv', 'innerproduct')),
    'weight_filler': ('weight_filler', ('conv', 'innerproduct')),
    'bias_filler': ('bias_filler', ('conv', 'innerproduct')),
    'pad': ('pad', ('conv', 'pool')),
    'kernelsize': ('kernel_size', ('conv', 'pool')),
    'group': ('group', ('conv',)),
    'stride': ('stride', ('conv', 'pool')),
    'pool': ('pool', ('pool',)),
    'dropout_ratio': ('dropout_ratio', ('dropout',)),
    'local_size': ('local_size', ('lrn',)),
    'alpha': ('alpha', ('lrn',)),
    'beta': ('beta', ('lrn',)),
    'k': ('k', ('lrn',)),
    'source': ('source', ('data', 'hdf5_data', 'images', 'window_data', 'infogain_loss')),
    'batchsize': ('batch_size', ('data', 'hdf5_data', 'images', 'window_data')),
    'rand_skip': ('rand_skip', ('data', 'images')),
    'shuffle_images': ('shuffle', ('images',)),
    'new_height': ('new_height', ('images',)),
    'new_width': ('new_width', ('images',)),
    'concat_dim': ('concat_dim', ('concat',)),
    'det_fg_threshold': ('fg_threshold', ('window_data',)),
    'det_bg_threshold': ('bg_threshold', ('window_data',)),
    'det_fg_fraction': ('fg_fraction', ('window_data',)),
    'det_context_pad': ('context_pad', ('window_data',)),
    'det_crop_mode': ('crop_mode', ('window_data',)),
}

# V0 field: its name in transform_param, whatever the type.
V0_TRANSFORMS = {'scale': 'scale', 'meanfile': 'mean_file', 'cropsize': 'crop_size', 'mirror': 'mirror'}


def is_v0_padding(layer: Message) -> bool:
    """Whether a V1LayerParameter is a V0 padding layer, which the upgrade folds into the layers after it."""
    return layer.layer.type == 'padding'


def upgrade_v0(net: Message) -> Upgrade:
    """V0 layers to V1, padding layers folded into what they feed (UpgradeV0Net)."""
    if not any(layer.HasField('layer') for layer in net.layers):
        return Upgrade(net, [])
    notes = ["its layers are in the first format (V0, 'layers { layer { } }')"]
    new = _without_v0_padding(net)
    layers = list(new.layers)
    new.ClearField('layers')
    for old in layers:
        new.layers.append(_upgrade_v0_layer(old, notes))
    return Upgrade(new, notes)


def _without_v0_padding(net: Message) -> Message:
    """UpgradeV0PaddingLayers."""
    new = _copy(net)
    new.ClearField('layers')
    maker = dict.fromkeys(net.input)  # blob -> the layer that made it last; None: an input of the net
    for old in net.layers:
        layer = _copy(old)
        for j, blob in enumerate(old.bottom):
            if blob not in maker:
                raise UpgradeError(f"Unknown blob input '{blob}' to layer '{old.layer.name}'")
            padding = maker[blob]
            if padding is None or not is_v0_padding(padding):
                continue
            if old.layer.type not in ('conv', 'pool'):
                raise UpgradeError(
                    f"layer '{old.layer.name}': Padding layer input to "
                    f'non-convolutional / non-pooling layer type {old.layer.type}'
                )
            for which, blobs in ((old, old.bottom), (padding, padding.bottom), (padding, padding.top)):
                if len(blobs) != 1:
                    raise UpgradeError(
                        f"layer '{which.layer.name}': a padding layer and what it feeds take a single blob; "
                        f'this one has {list(blobs)}'
                    )
            layer.layer.pad = padding.layer.pad
            layer.bottom[j] = padding.bottom[0]
        if not is_v0_padding(old):
            new.layers.append(layer)
        maker.update(dict.fromkeys(old.top, old))
    return new


def _upgrade_v0_layer(old: Message, notes: list[str]) -> Message:
    """UpgradeV0LayerParameter. A field that the type does not have is dropped with a note, as in Caffe."""
    if not old.HasField('layer'):
        raise UpgradeError(f"layer '{old.name}' is not in the first format (V0), while other layers of the net are")
    v0 = old.layer
    new = V1(bottom=old.bottom, top=old.top, blobs=v0.blobs, blobs_lr=v0.blobs_lr, weight_decay=v0.weight_decay)
    for field, value in v0.ListFields():
        name = field.name
        renamed, types = V0_FIELDS.get(name, ('', ()))
        if name in ('blobs', 'blobs_lr', 'weight_decay'):
            pass
        elif name == 'name':
            new.name = value
        elif name == 'type':
            if value not in V0_TYPES:
                raise UpgradeError(f"Unknown layer name: '{value}', the type of layer '{v0.name}'")
            new.type = V0_TYPES[value]
        elif name in V0_TRANSFORMS:
            setattr(new.transform_param, V0_TRANSFORMS[name], value)
        elif name == 'hdf5_output_param' and v0.type == 'hdf5_output':
            new.hdf5_output_param.CopyFrom(value)
        elif v0.type in types:
            _put(getattr(new, V0_SETTINGS[v0.type]), renamed, value)
        else:
            notes.append(f"layer '{v0.name}': Unknown parameter {name} for layer type {v0.type}, not used")
    return new


def _put(message: Message, name: str, value) -> None:
    """Sets a field of any kind; the repeated ones (kernel_size, stride, pad) held one number in V0."""
    target = getattr(message, name)
    if isinstance(value, Message):
        target.CopyFrom(value)
    elif hasattr(target, 'append'):
        target.append(value)
    else:
        setattr(message, name, value)


# ---- Within V1


def upgrade_data_transformation(net: Message) -> Upgrade:
    """Fields of V1 data layers that belong into transform_param (UpgradeNetDataTransformation)."""
    settings = {V1.DATA: 'data_param', V1.IMAGE_DATA: 'image_data_param', V1.WINDOW_DATA: 'window_data_param'}
    notes = []
    new = _copy(net)
    for layer in new.layers:
        if layer.type not in settings or not layer.HasField(settings[layer.type]):
            continue
        old = getattr(layer, settings[layer.type])
        moved = [name for name in ('scale', 'mean_file', 'crop_size', 'mirror') if old.HasField(name)]
        for name in moved:
            setattr(layer.transform_param, name, getattr(old, name))
            old.ClearField(name)
        if moved:
            notes.append(f"layer '{layer.name}': {', '.join(moved)} belong into transform_param")
    return Upgrade(new, notes) if notes else Upgrade(net, [])


# ---- V1 to V2

V1_TYPES = {
    V1.NONE: '',
    V1.ABSVAL: 'AbsVal',
    V1.ACCURACY: 'Accuracy',
    V1.ARGMAX: 'ArgMax',
    V1.BNLL: 'BNLL',
    V1.CONCAT: 'Concat',
    V1.CONTRASTIVE_LOSS: 'ContrastiveLoss',
    V1.CONVOLUTION: 'Convolution',
    V1.DATA: 'Data',
    V1.DECONVOLUTION: 'Deconvolution',
    V1.DROPOUT: 'Dropout',
    V1.DUMMY_DATA: 'DummyData',
    V1.ELTWISE: 'Eltwise',
    V1.EUCLIDEAN_LOSS: 'EuclideanLoss',
    V1.EXP: 'Exp',
    V1.FLATTEN: 'Flatten',
    V1.HDF5_DATA: 'HDF5Data',
    V1.HDF5_OUTPUT: 'HDF5Output',
    V1.HINGE_LOSS: 'HingeLoss',
    V1.IM2COL: 'Im2col',
    V1.IMAGE_DATA: 'ImageData',
    V1.INFOGAIN_LOSS: 'InfogainLoss',
    V1.INNER_PRODUCT: 'InnerProduct',
    V1.LRN: 'LRN',
    V1.MEMORY_DATA: 'MemoryData',
    V1.MULTINOMIAL_LOGISTIC_LOSS: 'MultinomialLogisticLoss',
    V1.MVN: 'MVN',
    V1.POOLING: 'Pooling',
    V1.POWER: 'Power',
    V1.RELU: 'ReLU',
    V1.SIGMOID: 'Sigmoid',
    V1.SIGMOID_CROSS_ENTROPY_LOSS: 'SigmoidCrossEntropyLoss',
    V1.SILENCE: 'Silence',
    V1.SLICE: 'Slice',
    V1.SOFTMAX: 'Softmax',
    V1.SOFTMAX_LOSS: 'SoftmaxWithLoss',
    V1.SPLIT: 'Split',
    V1.TANH: 'TanH',
    V1.THRESHOLD: 'Threshold',
    V1.WINDOW_DATA: 'WindowData',
}


def upgrade_v1(net: Message) -> Upgrade:
    """V1 `layers` to `layer` (UpgradeV1Net)."""
    if not net.layers:
        return Upgrade(net, [])
    if net.layer:
        raise UpgradeError(
            "Refusing to upgrade inconsistent NetParameter input; the definition includes both 'layer' and "
            "'layers' fields. The current format defines 'layer' fields with string type like "
            "layer { type: 'Layer' ... } and not layers { type: LAYER ... }. "
            "Manually switch the definition to 'layer' format to continue."
        )
    new = _copy(net)
    new.ClearField('layers')
    for old in net.layers:
        new.layer.append(_upgrade_v1_layer(old))
    return Upgrade(new, ["its layers are in the second format (V1, 'layers { type: NAME }')"])


def _upgrade_v1_layer(old: Message) -> Message:
    """UpgradeV1LayerParameter."""
    new = caffe_pb2.LayerParameter(
        bottom=old.bottom,
        top=old.top,
        include=old.include,
        exclude=old.exclude,
        blobs=old.blobs,
        loss_weight=old.loss_weight,
    )
    if old.HasField('name'):
        new.name = old.name
    if old.HasField('type'):
        new.type = V1_TYPES[old.type]
    # One repeated field for each property of a parameter became one ParamSpec for each parameter.
    properties = (
        ('name', old.param),
        ('share_mode', old.blob_share_mode),
        ('lr_mult', old.blobs_lr),
        ('decay_mult', old.weight_decay),
    )
    for name, values in properties:
        for i, value in enumerate(values):
            while len(new.param) <= i:
                new.param.add()
            setattr(new.param[i], name, value)
    for field, value in old.ListFields():
        if field.name.endswith('_param'):  # the settings kept their names and messages
            getattr(new, field.name).CopyFrom(value)
    return new


# ---- Within V2


def upgrade_input(net: Message) -> Upgrade:
    """`input` with `input_shape` or `input_dim` to an Input layer at the front (UpgradeNetInput).

    Without shapes the field is only taken away: old .caffemodel files have it so.
    """
    if not net.input:
        return Upgrade(net, [])
    new = _copy(net)
    for name in ('input', 'input_shape', 'input_dim', 'layer'):
        new.ClearField(name)
    if net.input_shape or net.input_dim:
        layer = new.layer.add(name='input', type='Input', top=net.input)
        layer.input_param.shape.extend(_input_shapes(net))
    new.layer.extend(net.layer)
    return Upgrade(new, ["'input' and its shape are deprecated, an Input layer takes their place"])


def _input_shapes(net: Message) -> list[Message]:
    count = len(net.input)
    if net.input_shape:
        if len(net.input_shape) != count:
            raise UpgradeError(
                f'Exactly one input_shape must be specified per input: {count} input and '
                f'{len(net.input_shape)} input_shape are given'
            )
        return list(net.input_shape)
    if len(net.input_dim) != 4 * count:
        raise UpgradeError(
            f'input_dim must be given four times per input (num, channels, height, width): {count} input and '
            f'{len(net.input_dim)} input_dim are given'
        )
    return [caffe_pb2.BlobShape(dim=net.input_dim[4 * i : 4 * i + 4]) for i in range(count)]


def upgrade_batch_norm(net: Message) -> Upgrade:
    """lr_mult and decay_mult 0 for BatchNorm layers that state three params (UpgradeNetBatchNorm)."""
    fixed = caffe_pb2.ParamSpec(lr_mult=0, decay_mult=0)
    notes = []
    new = _copy(net)
    for layer in new.layer:
        if layer.type != 'BatchNorm' or len(layer.param) != 3:
            continue
        if any((spec.lr_mult, spec.decay_mult) != (0, 0) for spec in layer.param):
            notes.append(f"layer '{layer.name}': lr_mult and decay_mult of a BatchNorm layer are always 0")
        for spec in layer.param:
            spec.MergeFrom(fixed)
    return Upgrade(new, notes) if notes else Upgrade(net, [])


def upgrade_rfcn(net: Message) -> Upgrade:
    """The OHEM form of losses that give the loss of each RoI by a top more than BVLC's.

    So daijifeng001/caffe-rfcn has SoftmaxWithLoss and SmoothL1Loss; for py-R-FCN they were renamed.
    """
    most = {'SoftmaxWithLoss': 2, 'SmoothL1Loss': 1}
    notes = []
    new = _copy(net)
    for layer in new.layer:
        if len(layer.top) == most.get(layer.type, len(layer.top)) + 1:
            notes.append(f"layer '{layer.name}': a {layer.type} of {len(layer.top)} tops is now a {layer.type}OHEM")
            layer.type += 'OHEM'
    return Upgrade(new, notes) if notes else Upgrade(net, [])


# ---- Solvers


def upgrade_solver(solver: Message) -> Upgrade:
    """`solver_type: ADAM` to `type: "Adam"` (UpgradeSolverAsNeeded). Nets in the solver stay as they are."""
    if not solver.HasField('solver_type'):
        return Upgrade(solver, [])
    if solver.HasField('type'):
        raise UpgradeError(
            'Failed to upgrade solver: old solver_type field (enum) and new type field (string) cannot be '
            'both specified in solver proto text.'
        )
    enum = caffe_pb2.SolverParameter
    types = {
        enum.SGD: 'SGD',
        enum.NESTEROV: 'Nesterov',
        enum.ADAGRAD: 'AdaGrad',
        enum.RMSPROP: 'RMSProp',
        enum.ADADELTA: 'AdaDelta',
        enum.ADAM: 'Adam',
    }
    new = _copy(solver)
    new.type = types[solver.solver_type]
    new.ClearField('solver_type')
    return Upgrade(new, [f'solver_type is deprecated, write type: "{new.type}"'])
