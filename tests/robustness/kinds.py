"""Every kind of file that users give: how a valid one is made, and who reads it.

Each kind is a function that writes a valid file, or files, into a folder, and returns (path of the file to be
damaged, function that reads it). What the reader raises is judged in `reading.py`.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import cv2
import h5py
import numpy as np
import scipy.io
import yaml

sys.path += [str(Path(__file__).parents[1] / 'projects'), str(Path(__file__).parents[2] / 'tools')]
import twelve

import caffe
from caffe.files import model_file
from detection_data.factory import get_imdb
from detection_data.proposals import Proposals, write_proposals
from detection_data.proposals_mat import convert
from fast_rcnn import config
from fast_rcnn.detections_file import load_detections, save_detections
from fast_rcnn.model_card import ModelCard, add_card, read_card
from projects.formats import read_labels
from projects.photographs import ImageFolder
from projects.project import load_project

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 12 dim: 12 } } }
layer { name: "rois" type: "Input" top: "rois" input_param { shape { dim: 3 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "norm" type: "LRN" bottom: "conv" top: "norm" lrn_param { local_size: 3 alpha: 0.1 } }
layer { name: "pool" type: "ROIPooling" bottom: "norm" bottom: "rois" top: "pool"
  roi_pooling_param { pooled_w: 2 pooled_h: 2 spatial_scale: 0.5 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
SOLVER = 'net: "%s"\nbase_lr: 0.01 lr_policy: "step" gamma: 0.1 stepsize: 10 momentum: 0.9 max_iter: 3 random_seed: 1\n'
DATA = """
layer { name: "data" type: "%s" top: "data" top: "label" %s }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


# A line of a training record, as tools/train_net.py writes it
ENTRY = """
{"iteration": 0, "lr": 0.01, "images": 2, "loss": {"loss_cls": 1.60561, "loss_bbox": 0.340212}, "all": {"rois":
548, "fg": 41, "loss": 1.72407, "cls": 1.59324, "bbox": 0.130833, "by_class": {"background": {"rois": 507,
"cls": 1.59168, "bbox": 0.0}, "button": {"rois": 16, "cls": 1.66528, "bbox": 1.91041}, "leaf": {"rois": 18,
"cls": 1.49435, "bbox": 2.11036}, "starfish": {"rois": 7, "cls": 1.79552, "bbox": 0.449027}}}, "mined": {"rois":
128, "fg": 17, "bg": 111, "loss": 2.08196, "cls": 1.74142, "bbox": 0.340539}, "seconds": {"step": 8.336758,
"data": 0.031648, "forward": 6.818063, "mining": 0.001136, "backward": 1.441335}, "memory": {"host_peak_mb":
328.8}}
"""


def net_prototxt(folder):
    path = folder / 'net.prototxt'
    path.write_text(NET)
    return path, lambda: caffe.Net(str(path), caffe.TEST).forward()


def solver_prototxt(folder):
    net, _ = net_prototxt(folder)
    path = folder / 'solver.prototxt'
    path.write_text(SOLVER % net)
    return path, lambda: caffe.get_solver(str(path)).step(1)


def _weights(folder, name):
    prototxt, _ = net_prototxt(folder)
    net = caffe.Net(str(prototxt), caffe.TEST)
    path = folder / name
    (net.save_hdf5 if name.endswith('.h5') else net.save)(str(path))
    return path, lambda: net.copy_from(str(path))


def caffemodel(folder):
    return _weights(folder, 'w.caffemodel')


def caffemodel_h5(folder):
    return _weights(folder, 'w.caffemodel.h5')


def _state(folder, name):
    path, _ = solver_prototxt(folder)
    solver = caffe.get_solver(str(path))
    solver.net.save(str(folder / 'w.caffemodel'))
    history = [blob.data for blob in solver.history]
    state = folder / name
    model_file.write_state(str(state), 5, str(folder / 'w.caffemodel'), history, 0, 'SGD')
    return state, lambda: solver.restore(str(state))


def solverstate(folder):
    return _state(folder, 's.solverstate')


def solverstate_h5(folder):
    return _state(folder, 's.solverstate.h5')


def binaryproto(folder):
    path = folder / 'mean.binaryproto'
    model_file.write_blobproto(path, np.ones((1, 3, 4, 4), np.float32))
    return path, lambda: model_file.read_blobproto(path)


def model_card(folder):
    path, _ = caffemodel(folder)
    add_card(str(path), ModelCard(('__background__', 'cat', 'dog'), 'pets'))
    return path, lambda: read_card(str(path))


def lmdb(folder):
    import lmdb as library

    with library.open(str(folder / 'db'), map_size=2**20) as env, env.begin(write=True) as transaction:
        for k in range(4):
            datum = caffe.proto.caffe_pb2.Datum(channels=1, height=2, width=2, data=bytes(range(4)), label=k % 2)
            transaction.put(f'{k:04d}'.encode(), datum.SerializeToString())
    prototxt = folder / 'data.prototxt'
    prototxt.write_text(DATA % ('Data', f'data_param {{ source: "{folder}/db" batch_size: 2 backend: LMDB }}'))
    return folder / 'db' / 'data.mdb', lambda: caffe.Net(str(prototxt), caffe.TRAIN).forward()


def hdf5_data(folder):
    path = folder / 'rows.h5'
    with h5py.File(path, 'w') as file:
        file['data'], file['label'] = np.ones((4, 3), np.float32), np.zeros(4, np.float32)
    (folder / 'list.txt').write_text(f'{path}\n')
    prototxt = folder / 'data.prototxt'
    prototxt.write_text(DATA % ('HDF5Data', f'hdf5_data_param {{ source: "{folder}/list.txt" batch_size: 2 }}'))
    return path, lambda: caffe.Net(str(prototxt), caffe.TRAIN).forward()


def image_list(folder):
    cv2.imwrite(str(folder / 'a.png'), np.zeros((6, 6, 3), np.uint8))
    path = folder / 'list.txt'
    path.write_text(f'{folder}/a.png 0\n{folder}/a.png 1\n')
    prototxt = folder / 'data.prototxt'
    prototxt.write_text(DATA % ('ImageData', f'image_data_param {{ source: "{path}" batch_size: 2 }}'))
    return path, lambda: caffe.Net(str(prototxt), caffe.TRAIN).forward()


def _listed_image(folder, name):
    path = folder / name
    cv2.imwrite(str(path), np.full((30, 40, 3), 90, np.uint8))
    (folder / 'list.txt').write_text(f'{path} 0\n')
    prototxt = folder / 'data.prototxt'
    prototxt.write_text(
        DATA
        % ('ImageData', f'image_data_param {{ source: "{folder}/list.txt" batch_size: 1 new_height: 8 new_width: 8 }}')
    )
    return path, lambda: caffe.Net(str(prototxt), caffe.TRAIN).forward()


def listed_jpg(folder):
    return _listed_image(folder, 'a.jpg')


def listed_png(folder):
    return _listed_image(folder, 'a.png')


def listed_bmp(folder):
    return _listed_image(folder, 'a.bmp')


def loaded_png(folder):
    path = folder / 'a.png'
    cv2.imwrite(str(path), np.full((30, 40, 3), 90, np.uint8))
    return path, lambda: caffe.io.load_image(str(path))


def _voc(folder):
    twelve.write_images(folder / 'JPEGImages')
    twelve.write_voc(folder / 'Annotations')
    (folder / 'ImageSets' / 'Main').mkdir(parents=True)
    (folder / 'ImageSets' / 'Main' / 'train.txt').write_text('photo 00\nphoto 01\n')
    (folder / 'classes.txt').write_text('apple\npear\n')

    def read():
        from roi_data_layer.image_blob import read_image

        data = get_imdb(f'folder:{folder}:train')
        for i in range(data.num_images):
            data.annotation(i)
            read_image(data.image_path_at(i))

    return read


def voc_xml(folder):
    read = _voc(folder)
    return folder / 'Annotations' / 'photo 00.xml', read


def voc_list(folder):
    read = _voc(folder)
    return folder / 'ImageSets' / 'Main' / 'train.txt', read


def voc_classes(folder):
    read = _voc(folder)
    return folder / 'classes.txt', read


def _photo(folder, suffix):
    read = _voc(folder)
    jpg = folder / 'JPEGImages' / 'photo 00.jpg'
    image = cv2.imread(str(jpg))
    path = jpg.with_suffix(suffix)
    jpg.unlink()
    cv2.imwrite(str(path), image)
    return path, read


def photo_jpg(folder):
    return _photo(folder, '.jpg')


def photo_png(folder):
    return _photo(folder, '.png')


def photo_bmp(folder):
    return _photo(folder, '.bmp')


def coco_json(folder):
    twelve.write_images(folder)
    twelve.write_coco(folder, 'labels.json')

    def read():
        data = get_imdb(f'coco:{folder}/labels.json:{folder}')
        return [data.annotation(i) for i in range(data.num_images)]

    return folder / 'labels.json', read


def proposals_h5(folder):
    path = folder / 'boxes.h5'
    boxes = [np.array([[0, 0, 5, 5], [1, 2, 7, 8]], np.float32)] * 3
    write_proposals(str(path), ['a', 'b', 'c'], boxes, 'selective_search', {'seed': 3})

    def read():
        there = Proposals(str(path))
        return [there.of(name) for name in ('a', 'b', 'c')]

    return path, read


def proposals_mat(folder):
    path = folder / 'boxes.mat'
    cells = np.empty((2, 1), object)
    cells[:, 0] = [np.array([[1, 1, 5, 5], [2, 2, 9, 8]], np.float64)] * 2
    names = np.empty((2, 1), object)
    names[:, 0] = ['a', 'b']
    scipy.io.savemat(path, {'boxes': cells, 'images': names}, do_compression=True)

    def read():
        (folder / 'out.h5').unlink(missing_ok=True)
        convert(str(path), str(folder / 'out.h5'), ['a', 'b'])

    return path, read


def settings_yml(folder):
    path = folder / 'cfg.yml'
    shutil.copy(Path(__file__).parents[2] / 'experiments' / 'cfgs' / 'demo_ohem.yml', path)
    before = copy.deepcopy(dict(config.cfg))

    def read():
        try:
            config.cfg_from_file(str(path))
        finally:
            config.cfg.update(copy.deepcopy(before))

    return path, read


def set_flags(folder):
    """--set KEY VALUE: the words, a line each, are the file."""
    path = folder / 'words.txt'
    path.write_text('TRAIN.SCALES\n(400, 500)\nRNG_SEED\n4\nTRAIN.BBOX_INSIDE_WEIGHTS\n(1, 2, 3, 4)\nEXP_DIR\nx\n')
    before = copy.deepcopy(dict(config.cfg))

    def read():
        try:
            config.cfg_from_list(path.read_text(errors='replace').split('\n')[:-1])
        except config.ConfigError as error:
            raise config.ConfigError(f'{path}: {error}') from None  # a command line has no file to name
        finally:
            config.cfg.update(copy.deepcopy(before))

    return path, read


def record_jsonl(folder):
    path = folder / 'x_record.jsonl'
    entry = json.loads(ENTRY)
    path.write_text(''.join(json.dumps({**entry, 'iteration': k}) + '\n' for k in range(5)))

    def read():
        import plot_training

        sys.argv = ['plot_training.py', str(path), '--out', str(folder / 'curves.png')]
        plot_training.main()

    return path, read


def detections_npz(folder):
    path = folder / 'detections.npz'
    cells = [[np.zeros((0, 5), np.float32)] * 2, [np.ones((2, 5), np.float32)] * 2]
    save_detections(str(path), cells, ['__background__', 'cat'], ['a', 'b'])
    return path, lambda: load_detections(str(path))


def project_yml(folder):
    content = {
        'name': 'fruit', 'net': 'small', 'classes': ['apple'], 'images': 'x', 'labels': 'y', 'seed': 3,
        'iterations': 100, 'photographs': {'train': 3},
    }  # fmt: skip
    path = folder / 'project.yml'
    path.write_text(yaml.safe_dump(content))
    (folder / 'fruit_train.json').touch()
    return path, lambda: load_project(str(folder)).imdb('train')


def _labels(folder, write, name):
    twelve.write_images(folder)
    write(folder)
    images = ImageFolder(str(folder))
    return folder / name, lambda: read_labels(str(folder), images, Counter())


def labels_voc(folder):
    return _labels(folder, twelve.write_voc, 'photo 00.xml')


def labels_coco(folder):
    return _labels(folder, twelve.write_coco, 'instances_default.json')


def labels_yolo(folder):
    path, read = _labels(folder, twelve.write_yolo, 'photo 00.txt')
    (folder / 'classes.txt').write_text('apple\npear\n')
    return path, read


def labels_yolo_names(folder):
    path, read = _labels(folder, twelve.write_yolo, 'data.yaml')
    path.write_text('nc: 2\nnames: [apple, pear]\n')
    return path, read


def labels_labelme(folder):
    return _labels(folder, twelve.write_labelme, 'photo 00.json')


def labels_csv(folder):
    return _labels(folder, twelve.write_csv, '_annotations.csv')


KINDS = {
    function.__name__: function
    for function in (
        net_prototxt, solver_prototxt, caffemodel, caffemodel_h5, solverstate, solverstate_h5, binaryproto, model_card,
        lmdb, hdf5_data, image_list, listed_jpg, listed_png, listed_bmp, loaded_png,
        voc_xml, voc_list, voc_classes, photo_jpg, photo_png, photo_bmp, coco_json,
        proposals_h5, proposals_mat, settings_yml, set_flags, record_jsonl, detections_npz, project_yml, labels_voc,
        labels_coco, labels_yolo, labels_yolo_names, labels_labelme, labels_csv,
    )
}  # fmt: skip
