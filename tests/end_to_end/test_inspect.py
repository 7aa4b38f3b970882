"""Seeing what is mined: the record, its curves, the page in a real browser, mistakes, a terminal."""

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios

import cv2
import pytest
from commands import ROOT, SMALL, run

PREFIX = 'small_fast_rcnn_ohem'
CFG = 'experiments/cfgs/demo_ohem.yml'
BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
NO_BROWSER = 'no Chromium here (chromium, chromium-browser or google-chrome on PATH), so the page is not opened'


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope='module')
def trained(tiny, tmp_path_factory):
    """A folder of runs on the tiny set: `ohem` of 4 iterations, a snapshot at 2; the baseline of 2."""
    root = tmp_path_factory.mktemp('runs')
    for name, method, settings in (
        ('ohem', 'fast_rcnn_ohem', ['TRAIN.SNAPSHOT_ITERS', 2]),
        ('baseline', 'fast_rcnn', ['TRAIN.USE_OHEM', False, 'TRAIN.BG_THRESH_LO', 0.1]),
    ):
        run(
            'tools/train_net.py',
            '--gpu',
            'cpu',
            '--solver',
            SMALL / method / 'solver.prototxt',
            '--imdb',
            f'folder:{tiny}:train',
            '--iters',
            4 if name == 'ohem' else 2,
            '--cfg',
            CFG,
            '--set',
            'ROOT_DIR',
            root,
            'EXP_DIR',
            name,
            'TRAIN.SCALES',
            '(120,)',
            *settings,
        )
    return root / 'output'


def folder(trained, name='ohem'):
    return trained / name / 'tiny_train'


def test_training_writes_a_line_an_iteration(trained):
    record = lines(folder(trained) / f'{PREFIX}_record.jsonl')
    assert [line['iteration'] for line in record] == [0, 1, 2, 3]
    for line in record:
        everything, mined, seconds = line['all'], line['mined'], line['seconds']
        assert set(everything['by_class']) <= {'background', 'button', 'ladybird', 'leaf', 'starfish'}
        assert sum(each['rois'] for each in everything['by_class'].values()) == everything['rois']
        for part in ('cls', 'bbox'):
            total = sum(each['rois'] * each[part] for each in everything['by_class'].values())
            assert total == pytest.approx(everything['rois'] * everything[part], rel=1e-4)
        assert mined['rois'] == mined['fg'] + mined['bg'] <= 128
        assert mined['loss'] > everything['loss'] and line['lr'] == 0.01 and line['images'] == 2
        parts = [seconds[part] for part in ('data', 'forward', 'mining', 'backward')]
        assert min(parts) > 0 and sum(parts) <= seconds['step']
    (baseline,) = folder(trained, 'baseline').glob('*_record.jsonl')
    assert all('all' not in line and line['mined']['rois'] <= 128 for line in lines(baseline))


def test_a_resumed_run_goes_on_in_its_record(trained, tiny, tmp_path):
    shutil.copytree(trained, tmp_path / 'output')
    here = tmp_path / 'output' / 'ohem' / 'tiny_train'
    before = lines(here / f'{PREFIX}_record.jsonl')
    run(
        'tools/train_net.py',
        '--gpu',
        'cpu',
        '--solver',
        SMALL / 'fast_rcnn_ohem' / 'solver.prototxt',
        '--imdb',
        f'folder:{tiny}:train',
        '--iters',
        3,
        '--cfg',
        CFG,
        '--snapshot',
        here / f'{PREFIX}_resume_iter_2.solverstate',
        '--set',
        'ROOT_DIR',
        tmp_path,
        'EXP_DIR',
        'ohem',
        'TRAIN.SCALES',
        '(120,)',
    )
    after = lines(here / f'{PREFIX}_record.jsonl')
    assert after[:2] == before[:2] and len(after) == 3
    for key in ('iteration', 'loss', 'all', 'mined'):
        assert after[2][key] == before[2][key], 'the same iteration again gives the same numbers'


@pytest.mark.parametrize(
    'path, name',
    [
        ('output/fruit/ohem/fruit_train/ohem_record.jsonl', 'fruit/ohem'),
        ('output/fruit/ohem/second/fruit_train/ohem_record.jsonl', 'fruit/ohem/second'),
        ('output/demo_ohem/demo_train/small_fast_rcnn_ohem_record.jsonl', 'small_fast_rcnn_ohem'),
    ],
)
def test_a_run_in_curves_is_called_by_its_project(trained, tmp_path, path, name):
    record = tmp_path / path
    record.parent.mkdir(parents=True)
    shutil.copy(next(folder(trained).glob('*_record.jsonl')), record)
    said = run('tools/plot_training.py', record, '--out', tmp_path / 'curves.png').stdout
    assert f'{name}: iterations 0 to 3' in said.splitlines()


def test_curves_of_several_runs(trained, tmp_path):
    per_roi = tmp_path / 'loss_per_roi.json'
    per_roi.write_text(json.dumps({'curves': {'OHEM': {'2': {'loss': 0.5}, '4': {'loss': 0.4}}}}))
    out = tmp_path / 'curves.png'
    said = run(
        'tools/plot_training.py',
        folder(trained),
        folder(trained, 'baseline'),
        '--names',
        'OHEM',
        'heuristic',
        '--per_roi',
        per_roi,
        '--out',
        out,
    )
    assert 'OHEM: iterations 0 to 3' in said.stdout
    assert cv2.imread(str(out)).shape[1] > 1500
    assert sorted(os.listdir(tmp_path)) == ['curves.png', 'loss_per_roi.json']


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        ([], 'nothing to draw'),
        (['nowhere.jsonl'], r'no training record nowhere\.jsonl'),
        (['README.md'], r'README\.md, line 1: not a line of a training record'),
        (['--per_roi', 'README.md'], r'README\.md: not a loss_per_roi\.json'),
        (['x', '--smooth', '0'], '--smooth takes a number of iterations'),
        (['x', '--names', 'a', 'b'], '--names gives 2 names for 1 records'),
        (['x', '--out', 'curves.jpg'], 'ends in .png'),
    ],
)
def test_curves_of_what_is_none(arguments, said):
    done = run('tools/plot_training.py', *arguments, status=1)
    assert re.search(said, done.stderr) and 'Traceback' not in done.stderr


@pytest.fixture(scope='module')
def report(trained, tiny, tmp_path_factory):
    """Pages made from both kinds of snapshot of iteration 4."""
    out = tmp_path_factory.mktemp('report')
    for kind in ('iter', 'resume_iter'):
        run(
            'tools/inspect_rois.py',
            '--gpu',
            'cpu',
            '--solver',
            SMALL / 'fast_rcnn_ohem' / 'solver.prototxt',
            '--weights',
            folder(trained) / f'{PREFIX}_{kind}_4.caffemodel',
            '--imdb',
            f'folder:{tiny}:train',
            '--batches',
            2,
            '--bbox_pred',
            'plain' if kind == 'iter' else 'normalised',
            '--out',
            out / kind,
            '--cfg',
            CFG,
        )
    return out


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text())[1])


def test_the_page_tells_of_every_roi(report):
    data = data_of(report / 'iter' / 'index.html')
    assert data['classes'] == ['background', 'button', 'ladybird', 'leaf', 'starfish']
    assert len(data['images']) == 4
    for image in data['images']:
        loss = [a + b for a, b in zip(image['cls'], image['bbox'], strict=True)]
        assert loss == sorted(loss, reverse=True)
        mined = data['fates'].index('mined')
        assert image['mined'] == image['fate'].count(mined) == sum(rank >= 0 for rank in image['rank'])
        for i, (fate, by) in enumerate(zip(image['fate'], image['by'], strict=True)):
            assert (by != i) == (data['fates'][fate] == 'repeats a harder one')
            assert loss[by] >= loss[i] and image['label'][by] == image['label'][i]
    assert sum(image['mined'] for image in data['images']) == 2 * 128


def test_both_kinds_of_snapshot_show_the_same(report):
    plain, normalised = (data_of(report / kind / 'index.html') for kind in ('iter', 'resume_iter'))
    for a, b in zip(plain['images'], normalised['images'], strict=True):
        assert a['cls'] == b['cls'] and sum(a['bbox']) == pytest.approx(sum(b['bbox']), rel=1e-3)


def test_a_rule_of_one_s_own_is_named_and_shown(trained, tiny, tmp_path):
    """It takes the RoIs of the lowest loss: all others are harder, and passed over."""
    (tmp_path / 'my_rules.py').write_text(
        'def easiest(loss, rois, labels, batch_size, nms_thresh):\n'
        "    return loss.argsort(kind='stable')[:batch_size]\n"
    )
    done = run(
        'tools/inspect_rois.py', '--gpu', 'cpu', '--solver', SMALL / 'fast_rcnn_ohem' / 'solver.prototxt',
        '--weights', folder(trained) / f'{PREFIX}_resume_iter_4.caffemodel', '--imdb', f'folder:{tiny}:train',
        '--batches', 1, '--out', tmp_path / 'page', '--cfg', CFG, '--set', 'TRAIN.OHEM_RULE', 'my_rules.easiest',
        env={'PYTHONPATH': os.pathsep.join([str(ROOT / 'lib'), str(tmp_path)])},
    )  # fmt: skip
    assert 'mined by my_rules.easiest' in done.stdout
    page = (tmp_path / 'page' / 'index.html').read_text()
    assert '<b>mining rule</b> my_rules.easiest' in page
    data = data_of(tmp_path / 'page' / 'index.html')
    fates = {data['fates'][fate] for image in data['images'] for fate in image['fate']}
    assert fates == {'mined', 'harder, but passed over'}


# What a visitor does, and what the page then shows; written into <pre id="seen">
VISIT = """
<script>
const seen = {errors: []}, $$ = s => [...document.querySelectorAll(s)];
const rows = () => $$('#rows tr').map(r => [...r.children].map(c => c.textContent));
const input = (id, value) => {
  const e = document.getElementById(id);
  e.value = value;
  e.dispatchEvent(new Event('input', {bubbles: true}));
};
const others = () => $$('#fates input').filter(e => !e.hidden).slice(1).forEach(e => e.click());
const head = $$('#heads th').find(h => h.textContent === 'IoU');
seen.thumbs = $$('#thumbs button').length;
seen.by_default = [$$('#boxes rect').length, document.getElementById('most').textContent];
input('hardest', 100000);
seen.truth = $$('#truth rect').length;
seen.boxes = $$('#boxes rect').length;
seen.first = rows()[0];
head.click();
seen.iou = rows().map(r => +r[5]);
head.click();
seen.rising = rows().map(r => +r[5]);
others();
seen.mined = [$$('#boxes rect').length, new Set(rows().map(r => r[1])).size, rows()[0][1]];
others();
input('class', 0);
seen.background = new Set(rows().map(r => r[3])).size;
input('class', -1);
input('least', 1.5);
seen.least = Math.min(...rows().map(r => +r[8]));
input('least', 0);
const svg = document.getElementById('boxes'), r = svg.getBoundingClientRect();
const i = D.images[0].by.findIndex((by, k) => by !== k), [x1, y1] = D.images[0].box[i];
const zoom = r.width / D.images[0].width, real = under;
seen.under = under(x1, y1, 3) >= 0;
under = () => i;
svg.dispatchEvent(new PointerEvent('pointermove', {clientX: r.left + x1 * zoom, clientY: r.top + y1 * zoom}));
seen.tip = document.getElementById('tip').innerText;
seen.hot = $$('#boxes .hot').length;
seen.cause = $$('#boxes .cause').length;
under = real;
document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}));
seen.second = [
  $$('#thumbs button').findIndex(b => b.classList.contains('on')),
  document.getElementById('image').src === D.images[1].src,
];
seen.width = [document.documentElement.scrollWidth, innerWidth];
seen.confusion = $$('#confusion td').reduce((sum, c) => sum + +c.textContent, 0);
const out = Object.assign(document.createElement('pre'), {id: 'seen', textContent: JSON.stringify(seen)});
document.body.append(out);
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason=NO_BROWSER)
@pytest.mark.parametrize('width', [1400, 700])
def test_the_page_in_a_browser(report, tmp_path, width):
    page = (report / 'iter' / 'index.html').read_text()
    visited = tmp_path / 'visited.html'
    visited.write_text(page.replace('function under', 'var under = function').replace('</body>', VISIT + '</body>'))
    done = subprocess.run(
        [
            BROWSER,
            '--headless',
            '--no-sandbox',
            '--disable-gpu',
            f'--window-size={width},1000',
            f'--user-data-dir={tmp_path}/profile',
            '--virtual-time-budget=3000',
            '--dump-dom',
            visited.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    seen = json.loads(found[1].replace('&lt;', '<').replace('&gt;', '>').replace('&amp;', '&'))
    image = data_of(report / 'iter' / 'index.html')['images'][0]
    loss = [a + b for a, b in zip(image['cls'], image['bbox'], strict=True)]
    assert seen['thumbs'] == 4 and seen['boxes'] == len(loss)
    first = max(30, image['width'] * image['height'] // 1000)  # not everything at once
    assert seen['by_default'] == [first, str(first)] and first < len(loss)
    assert seen['truth'] == 2 * len(image['objects']) > 0  # white on black
    assert seen['first'][8] == f'{loss[0]:.3f}'
    assert seen['iou'] == sorted(seen['iou'], reverse=True) and seen['iou'][0] == pytest.approx(
        max(image['iou']), abs=0.006
    )
    assert seen['rising'] == sorted(seen['rising'])
    assert seen['mined'] == [image['mined'], 1, 'mined']
    assert seen['background'] == 1 and seen['least'] >= 1.5 - 0.0005
    by = next(by for i, by in enumerate(image['by']) if by != i)
    assert f'suppressed: repeats #{by}' in seen['tip'] and 'IoU' in seen['tip'] and 'loss' in seen['tip']
    assert (seen['under'], seen['hot'], seen['cause']) == (True, 1, 1)
    assert seen['second'] == [1, True]
    assert seen['width'][0] <= seen['width'][1], 'nothing sticks out'
    assert seen['confusion'] == 2 * 128


NARROW = """
<iframe width="420" height="900" src="index.html"></iframe>
<script>addEventListener('message', e => {
  document.body.append(Object.assign(document.createElement('pre'), {id: 'seen', textContent: e.data}));
});</script>
"""


@pytest.mark.skipif(BROWSER is None, reason=NO_BROWSER)
def test_the_page_on_a_telephone(report, tmp_path):
    """Browsers make no window as narrow as that, but a frame in it."""
    page = (report / 'iter' / 'index.html').read_text()
    tell = "<script>parent.postMessage([document.documentElement.scrollWidth, innerWidth].join(' '), '*')</script>"
    (tmp_path / 'index.html').write_text(page.replace('</body>', tell + '</body>'))
    (tmp_path / 'frame.html').write_text(NARROW)
    done = subprocess.run(
        [
            BROWSER, '--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path}/profile',
            '--virtual-time-budget=3000', '--dump-dom', (tmp_path / 'frame.html').as_uri(),
        ],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    found = re.search(r'<pre id="seen">(\d+) (\d+)</pre>', done.stdout)
    assert found, done.stderr[-2000:]
    assert found[2] == '420' and int(found[1]) <= 420, 'nothing sticks out'


def test_nothing_is_mined_by_a_net_without_mining(trained, tiny, tmp_path):
    done = run(
        'tools/inspect_rois.py',
        '--gpu',
        'cpu',
        '--solver',
        SMALL / 'fast_rcnn' / 'solver.prototxt',
        '--weights',
        folder(trained) / f'{PREFIX}_iter_4.caffemodel',
        '--imdb',
        f'folder:{tiny}:train',
        '--out',
        tmp_path,
        '--cfg',
        CFG,
        '--set',
        'TRAIN.USE_OHEM',
        'False',
        status=1,
    )
    assert 'HardRoiMiningLayer, and no adversary: nothing is mined' in done.stderr and 'Traceback' not in done.stderr


def test_mistakes_are_sorted(trained, tiny, tmp_path):
    run(
        'tools/test_net.py',
        '--gpu',
        'cpu',
        '--def',
        SMALL / 'fast_rcnn_ohem' / 'test.prototxt',
        '--net',
        folder(trained) / f'{PREFIX}_iter_4.caffemodel',
        '--imdb',
        f'folder:{tiny}:test',
        '--det_thresh',
        0.01,
        '--cfg',
        CFG,
        '--set',
        'ROOT_DIR',
        tmp_path,
    )
    results = tmp_path / 'output' / 'demo_ohem' / 'tiny_test' / f'{PREFIX}_iter_4'
    said = run(
        'tools/visualize_errors.py',
        results,
        '--imdb',
        f'folder:{tiny}:test',
        '--det_thresh',
        0.01,
        '--out',
        tmp_path / 'e',
    )
    summary = json.loads((tmp_path / 'e' / 'errors.json').read_text())
    total = summary['total']
    assert total['right'] + total['missed'] == summary['objects'] > 0
    assert {kind: len(found) for kind, found in summary['mistakes'].items()} == {
        k: n for k, n in total.items() if k != 'right'
    }
    assert sum(summary['missed'].values()) == total['missed'] == len(summary['mistakes']['missed'])
    for kind, found in summary['mistakes'].items():
        assert (tmp_path / 'e' / f'{kind}.png').exists() == bool(found)
    assert cv2.imread(str(tmp_path / 'e' / 'errors.png')) is not None
    assert re.search(r'^all ', said.stdout, re.MULTILINE)
    done = run('tools/visualize_errors.py', tmp_path, '--imdb', f'folder:{tiny}:test', status=1)
    assert 'no detections file' in done.stderr
    for tool, flags, said in (
        ('visualize_errors', ['--most', 0], '--most is 0; expected 1 or more'),
        ('visualize_errors', ['--det_thresh', 5], r'--det_thresh is 5\.0; expected a number from 0 to 1'),
        ('reval', ['--iou', 'nan'], '--iou is nan; expected an IoU, from 0 to 1'),
        ('reval', ['--nms', 2], r'--nms is 2\.0; expected an IoU'),
    ):
        done = run(f'tools/{tool}.py', results, '--imdb', f'folder:{tiny}:test', *flags, status=1)
        assert re.search(said, done.stderr) and 'Traceback' not in done.stderr


def test_detections_on_photographs_by_themselves(trained, tiny, tmp_path):
    common = [
        'tools/demo.py',
        '--gpu',
        'cpu',
        '--def',
        SMALL / 'fast_rcnn_ohem' / 'test.prototxt',
        '--net',
        folder(trained) / f'{PREFIX}_iter_4.caffemodel',
        '--classes',
        tiny / 'classes.txt',
        '--proposals',
        'auto',
        '--out',
        tmp_path / 'out',
    ]
    photo = sorted((tiny / 'JPEGImages').iterdir())[0]
    large = tmp_path / 'large.png'
    cv2.imwrite(str(large), cv2.resize(cv2.imread(str(photo)), (900, 700)))
    run(*common, '--images', photo, large, '--det_thresh', 0.01, '--cfg', CFG)
    found = json.loads((tmp_path / 'out' / 'detections.json').read_text())
    assert set(found) == {str(photo), str(large)}
    height, width = cv2.imread(str(tmp_path / 'out' / 'large.png')).shape[:2]
    assert width == 900 and 700 < height < 800  # a legend is above it
    without = [(tmp_path / 'out' / name).read_bytes() for name in (f'{photo.stem}.png', 'large.png')]
    truth = ('--truth', f'folder:{tiny}:{photo.stem.partition("_")[0]}')
    run(*common, *truth, '--images', photo, large, '--det_thresh', 0.01, '--cfg', CFG)
    with_it = [(tmp_path / 'out' / name).read_bytes() for name in (f'{photo.stem}.png', 'large.png')]
    assert with_it[0] != without[0] and with_it[1] == without[1], 'the data set has the first of them'
    assert 'there is no file' in run(*common, '--images', 'nowhere.jpg', '--cfg', CFG, status=1).stderr
    mine = tmp_path / 'out' / 'mine.png'
    cv2.imwrite(str(mine), cv2.imread(str(photo)))
    before = mine.read_bytes()
    assert 'would be written over it' in run(*common, '--images', mine, '--cfg', CFG, status=1).stderr
    assert mine.read_bytes() == before
    for sub in ('one', 'two'):  # of one name: their paths tell the pictures apart
        (tmp_path / 'many' / sub).mkdir(parents=True)
        shutil.copy(photo, tmp_path / 'many' / sub)
    run(*common, '--images', tmp_path / 'many', '--cfg', CFG)
    assert len(json.loads((tmp_path / 'out' / 'detections.json').read_text())) == 2
    assert all((tmp_path / 'out' / f'{sub}_{photo.name}.png').is_file() for sub in ('one', 'two'))


def training(tiny, tmp_path, *settings, solver=SMALL / 'fast_rcnn_ohem' / 'solver.prototxt'):
    return [
        sys.executable,
        'tools/train_net.py',
        '--gpu',
        'cpu',
        '--solver',
        str(solver),
        '--imdb',
        f'folder:{tiny}:train',
        '--iters',
        '3',
        '--cfg',
        CFG,
        '--set',
        'ROOT_DIR',
        str(tmp_path),
        'TRAIN.SCALES',
        '(120,)',
        *settings,
    ]


BAR = r'3/3 \|.*\| 00:00 left, '


@pytest.mark.parametrize(
    ('columns', 'said'),
    [
        (100, BAR + r'loss all \d+\.\d+, mined \d+\.\d+, \d+\.\d images/s, mAP 0\.\d{3}'),
        (70, BAR + r'loss all \d+\.\d+, mined \d+\.\d+, mAP 0\.\d{3}'),
        (40, BAR + r'\d+\.\d+'),
    ],
)
def test_a_terminal_shows_a_bar_instead_of_log_lines(tiny, tmp_path, columns, said):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 30, columns, 0, 0))  # rows, columns
    environment = {**os.environ, 'PYTHONPATH': str(ROOT / 'lib'), 'GLOG_minloglevel': '0'}
    command = training(tiny, tmp_path)
    at = command.index('--cfg')
    command[at:at] = ['--val', f'folder:{tiny}:test']
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b''
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the terminal's other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait(timeout=300) == 0
    text = shown.decode()
    last = text.split('\r')[-2]  # the bar as it was left, and a newline after it
    assert re.fullmatch(said, last), text
    assert len(last) <= columns
    assert 'solver.cpp:229' not in text


def test_a_pipe_gets_caffe_s_lines_and_no_bar(tiny, tmp_path):
    done = run(*training(tiny, tmp_path)[1:])
    assert re.search(r'solver\.cpp:229\] Iteration 0, loss = ', done.stderr)
    assert 'images/s' not in done.stderr and '\r' not in done.stderr


def test_a_loss_that_is_not_finite_leaves_something_to_look_at(tiny, tmp_path):
    solver = tmp_path / 'solver.prototxt'
    text = (SMALL / 'fast_rcnn_ohem' / 'solver.prototxt').read_text()
    solver.write_text(re.sub('base_lr: .*', 'base_lr: 1e30', text))
    done = run(*training(tiny, tmp_path, solver=solver)[1:], status=1)
    (complaint,) = [line for line in done.stderr.splitlines() if 'error:' in line]
    assert re.search(
        r'iteration \d: .*first blob that is not finite is \w+, .*image .*\.(jpg|png).*base_lr is too high',
        complaint,
    )
    (dump,) = tmp_path.glob('output/demo_ohem/tiny_train/*_not_finite_iter_*')
    assert {p.name for p in dump.iterdir()} == {'blobs.npz', 'image.png', 'summary.json'}
    assert 'Traceback' not in done.stderr and str(dump) in complaint


def test_images_without_a_usable_roi_are_named(tiny_copy, tmp_path):
    """An image that has neither objects nor proposals is left out of training, and said to be."""
    first = (tiny_copy / 'ImageSets' / 'Main' / 'train.txt').read_text().split()[0]
    annotation = tiny_copy / 'Annotations' / f'{first}.xml'
    annotation.write_text(re.sub(r'<object>.*</object>', '', annotation.read_text(), flags=re.DOTALL))
    done = run(*training(tiny_copy, tmp_path, 'TRAIN.PROPOSAL_METHOD', 'gt', 'TRAIN.USE_FLIPPED', 'False')[1:])
    assert re.search(rf'1 of 6 images left out: .*{first}\.\w+ \(it has neither objects nor proposals\)', done.stdout)
