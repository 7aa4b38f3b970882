"""Settings: what is accepted, what is refused and in which words."""

import copy

import numpy as np
import pytest

from fast_rcnn.config import ConfigError, cfg, cfg_from_file, cfg_from_list, get_output_dir

PUBLISHED = """\
EXP_DIR: fast_rcnn_ohem
MATLAB: /opt/matlab/8.1/bin/matlab
TRAIN:
  BG_THRESH_LO: 0.0
  IMS_PER_BATCH: 1
  BATCH_SIZE: 64
  USE_OHEM: True
  ASPECT_GROUPING: False"""


def from_text(tmp_path, text):
    path = tmp_path / 'experiment.yml'
    path.write_text(text)
    cfg_from_file(str(path))


def test_published_ohem_file_loads_as_it_is(tmp_path):
    from_text(tmp_path, PUBLISHED)
    assert (cfg.EXP_DIR, cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.USE_OHEM) == ('fast_rcnn_ohem', 64, True)
    assert cfg.TRAIN.BG_THRESH_LO == 0.0
    assert cfg.TRAIN.BG_THRESH_HI == 0.5  # not mentioned: as it was


def test_the_published_file_of_faster_rcnn_loads_as_it_is(tmp_path):
    from_text(
        tmp_path,
        'EXP_DIR: faster_rcnn_end2end\nTRAIN:\n  HAS_RPN: True\n  IMS_PER_BATCH: 1\n'
        '  BBOX_NORMALIZE_TARGETS_PRECOMPUTED: True\n  RPN_POSITIVE_OVERLAP: 0.7\n  RPN_BATCHSIZE: 256\n'
        '  PROPOSAL_METHOD: gt\n  BG_THRESH_LO: 0.0\nTEST:\n  HAS_RPN: True\n',
    )
    assert (cfg.TRAIN.HAS_RPN, cfg.TEST.HAS_RPN, cfg.TRAIN.PROPOSAL_METHOD) == (True, True, 'gt')
    assert cfg.TEST.RPN_POST_NMS_TOP_N == 300  # not mentioned: as it was


@pytest.mark.parametrize('name', ['fast_rcnn', 'fast_rcnn_ohem'])
def test_our_files_load_and_name_their_output(name):
    cfg_from_file(f'{cfg.ROOT_DIR}/experiments/cfgs/{name}.yml')
    assert name == cfg.EXP_DIR


def test_python_tuples_of_published_files_are_read(tmp_path):
    from_text(tmp_path, 'TRAIN:\n  SCALES: !!python/tuple [480, 576]\nPIXEL_MEANS: [1, 2, 3]')
    assert cfg.TRAIN.SCALES == (480, 576)
    np.testing.assert_array_equal(cfg.PIXEL_MEANS, [[[1, 2, 3]]])


def test_a_number_may_be_written_without_a_point(tmp_path):
    from_text(tmp_path, 'EPS: 1e-14\nTRAIN:\n  FG_THRESH: 5E-1\nEXP_DIR: 2e\n')
    assert (cfg.EPS, cfg.TRAIN.FG_THRESH, cfg.EXP_DIR) == (1e-14, 0.5, '2e')


def test_command_line_values():
    cfg_from_list(['TRAIN.SCALES', '(400,500)', 'TRAIN.USE_FLIPPED', 'false', 'EXP_DIR', '123', 'TEST.NMS', '1'])
    assert cfg.TRAIN.SCALES == (400, 500)
    assert cfg.TRAIN.USE_FLIPPED is False
    assert cfg.EXP_DIR == '123'  # a key that holds a text takes the words as they stand
    assert cfg.TEST.NMS == 1.0 and isinstance(cfg.TEST.NMS, float)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('TRAIN:\n  BACH_SIZE: 64', ['experiment.yml', 'TRAIN.BACH_SIZE', 'did you mean TRAIN.BATCH_SIZE?']),
        ('SCALES: [600]', ['no setting SCALES', 'TRAIN.SCALES or TEST.SCALES']),
        ('TRAIN:\n  BATCH_SIZE: 64.5', ['TRAIN.BATCH_SIZE', 'a whole number, such as 128', 'float 64.5']),
        ('TRAIN:\n  BATCH_SIZE: True', ['a whole number', 'bool True']),
        ('TRAIN:\n  USE_OHEM: 1', ['True or False', 'int 1']),
        ('TRAIN:\n  SCALES: 600', ['a list of whole numbers, such as (600,)', 'int 600']),
        ('TRAIN:\n  SCALES: []', ['TRAIN.SCALES']),
        ('TRAIN:\n  BBOX_NORMALIZE_STDS: [0.1, 0.2]', ['a list of 4 numbers']),
        ('EXP_DIR: 2007', ['quote it', 'int 2007']),
        ('TRAIN:\n  FG_FRACTION: 25', ['TRAIN.FG_FRACTION', '[0, 1]']),
        ('EPS: .nan', ['finite']),
        ('TRAIN:\n  HAS_RPN: 1', ['TRAIN.HAS_RPN', 'True or False']),
        ('TRAIN:\n  RPN_BATCHSIZE: 0', ['TRAIN.RPN_BATCHSIZE', '[1, inf]']),
        ('TEST:\n  RPN_POSITIVE_OVERLAP: 0.5', ['TEST.RPN_POSITIVE_OVERLAP', 'TRAIN.RPN_POSITIVE_OVERLAP?']),
        ('TRAIN: 3', ['TRAIN is a group of settings']),
        ('just words', ['KEY: VALUE']),
        ('EXP_DIR: a\nEXP_DIR: b', ['EXP_DIR is given twice']),
        ('EXP_DIR: [', ['not valid YAML']),
        ('EXP_DIR: !!python/object/apply:os.getcwd []', ['not valid YAML']),
    ],
)
def test_a_mistake_is_explained_and_changes_nothing(tmp_path, text, words):
    before = copy.deepcopy(cfg)
    with pytest.raises(ConfigError) as error:
        from_text(tmp_path, 'RNG_SEED: 7\n' + text if ':' in text else text)
    for word in words:
        assert word in str(error.value)
    assert cfg.RNG_SEED == before.RNG_SEED  # the correct line before the mistake was not applied either
    assert cfg.TRAIN == before.TRAIN


def test_values_must_come_in_pairs():
    with pytest.raises(ConfigError, match='pairs KEY VALUE, got 1'):
        cfg_from_list(['EXP_DIR'])


@pytest.mark.parametrize('name', ['b', 'learning_rate', 'TRAIN.x'])
def test_no_name_is_offered_for_one_that_is_like_none(name):
    with pytest.raises(ConfigError, match=f'there is no setting {name}') as caught:
        cfg_from_list([name, '3'])
    assert 'did you mean' not in str(caught.value)


def test_missing_file():
    with pytest.raises(FileNotFoundError, match=r'no settings file nowhere\.yml'):
        cfg_from_file('nowhere.yml')


def test_output_folder(tmp_path):
    class Imdb:
        name = 'voc_2007_test'

    cfg.ROOT_DIR, cfg.EXP_DIR = str(tmp_path), 'mine'
    assert get_output_dir(Imdb, 'vgg16_iter_1') == str(tmp_path / 'output/mine/voc_2007_test/vgg16_iter_1')
    cfg.EXP_DIR = '../../elsewhere'
    with pytest.raises(
        ConfigError, match=r"EXP_DIR is '\.\./\.\./elsewhere', which leaves the folder output by '\.\.'"
    ):
        get_output_dir(Imdb)
    assert not (tmp_path.parent / 'elsewhere').exists()
    assert (tmp_path / 'output/mine/voc_2007_test').is_dir()


# Each lists 10 things 10 times: with the last, 10^8 values
BOMB = 'a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n' + ''.join(
    f'a{k}: &a{k} [{",".join([f"*a{k - 1}"] * 10)}]\n' for k in range(1, 8)
)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('TRAIN:\n  SCALES: ' + '[' * 3000, r'lists or groups in one another, more than 20 deep \(line 3, column 29\)'),
        (BOMB + 'EXP_DIR: *a7\n', r'its aliases stand for more than 10000 values, or for themselves'),
        ('TRAIN: &a\n  SCALES: *a\n', 'its aliases stand for more than 10000 values, or for themselves'),
        ('TRAIN:\n  <<: 3\n', r'expected a mapping .* for merging, but found scalar \(line 3, column 7\)'),
        ('RNG_SEED: ' + '9' * 6000, 'not valid YAML|thousands of digits'),
        ('RNG_SEED: 2001-99-99', 'not valid YAML: month must be in 1..12'),
        ('EPS: !!bool "x"', 'not valid YAML: a value that cannot be made'),
        ('EPS: 1' + '0' * 400, r'EPS expects finite numbers in \[0, 1\]; got 10*\.\.\.$'),
        ('PIXEL_MEANS: [1, 2, 1' + '0' * 400 + ']', 'PIXEL_MEANS expects 3 numbers'),
        ('# ' + 'x' * 2_000_000, 'more than 1048576 characters: this is no file of settings'),
    ],
)
def test_a_file_that_would_take_for_ever_is_told_at_once(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said) as error:
        from_text(tmp_path, 'RNG_SEED: 7\n' + text if 'RNG_SEED' not in text else text)
    assert len(str(error.value)) < 600 and '\n' not in str(error.value)


def test_a_group_may_take_over_the_keys_of_another(tmp_path):
    from_text(tmp_path, 'TRAIN: &both\n  SCALES: [500]\n  MAX_SIZE: 800\nTEST:\n  <<: *both\n  SCALES: [400]\n')
    assert (cfg.TRAIN.SCALES, cfg.TEST.SCALES, cfg.TEST.MAX_SIZE) == ((500,), (400,), 800)


@pytest.mark.parametrize('value', ['[' * 5000, '9' * 6000, '(1,' * 3000, '-' * 5000 + '1', '&a [*a]', '{[]: 1}', '\0'])
def test_a_value_of_set_that_is_none(value):
    with pytest.raises(ConfigError, match=r'settings: TRAIN\.SCALES expects a list of whole numbers') as error:
        cfg_from_list(['TRAIN.SCALES', value])
    assert len(str(error.value)) < 400
