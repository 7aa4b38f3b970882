"""Ranks: who is who, what --gpu says, what may travel, and who is meant when nothing goes on."""

import numpy as np
import pytest

import ranks
from ranks.channel import Channel, _Peer
from ranks.devices import device_of_rank, devices_of
from ranks.message import pack, unpack
from ranks.place import Place, place_of_environment


def test_a_process_alone_is_rank_0_of_1():
    assert (ranks.rank(), ranks.count(), ranks.is_root()) == (0, 1, True)
    assert ranks.gather('x') == ['x'] and ranks.share('x') == ['x'] and ranks.from_root('x') == 'x'
    assert ranks.mine([1, 2, 3]) == [1, 2, 3]
    assert place_of_environment({}) == Place()


def test_torchrun_says_which_rank_this_is():
    place = place_of_environment(
        {
            'RANK': '5', 'WORLD_SIZE': '8', 'LOCAL_RANK': '1', 'LOCAL_WORLD_SIZE': '4', 'MASTER_ADDR': 'localhost',
            'MASTER_PORT': '29500', 'TORCHELASTIC_RUN_ID': 'job', 'TORCHELASTIC_RESTART_COUNT': '2',
        }
    )  # fmt: skip
    assert (place.rank, place.count, place.local_rank, place.local_count) == (5, 8, 1, 4)
    assert (place.address, place.port, place.restarts, place.launched) == ('127.0.0.1', 29500, 2, False)
    assert place.job == 'job/8/2'


@pytest.mark.parametrize(
    ('said', 'match'),
    [
        ({'RANK': '2'}, 'RANK is 2, WORLD_SIZE 2'),
        ({'WORLD_SIZE': '0'}, 'RANK is 0, WORLD_SIZE 0'),
        ({'RANK': 'x'}, "RANK is 'x'; expected a whole number"),
        ({'MASTER_PORT': '70000'}, 'MASTER_PORT is 70000; expected 1 to 65534'),
        ({'TORCHELASTIC_RESTART_COUNT': ''}, "TORCHELASTIC_RESTART_COUNT is ''"),
    ],
)
def test_an_environment_that_makes_no_sense(said, match):
    with pytest.raises(ValueError, match=match):
        place_of_environment({'RANK': '0', 'WORLD_SIZE': '2', **said})


def test_devices():
    assert devices_of('cpu') == ['cpu'] and devices_of('CPU:2') == ['cpu', 'cpu'] and devices_of('0,2') == ['0', '2']
    for wrong in ('cpu:0', 'cpu:x', 'cpu:-1', 'cpu:²', 'cpu:', 'cpu:2,cpu', '0,', '', 'gpu', '-1', '²', '1' * 5000):
        with pytest.raises(ValueError, match='--gpu takes'):
            devices_of(wrong)
    for twice in ('1,1', '1,01'):
        with pytest.raises(ValueError, match='twice'):
            devices_of(twice)
    with pytest.raises(ValueError, match=r'so many processes for \d+ processors'):
        devices_of('cpu:99999')


def test_all_gpus_that_may_be_seen(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5')
    assert devices_of('all') == ['0', '1']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    with pytest.raises(ValueError, match='no GPU'):
        devices_of('all')


def test_each_rank_of_a_machine_has_its_device():
    second = Place(rank=3, count=4, local_rank=1, local_count=2)
    assert device_of_rank('4,5', second) == '5'
    assert device_of_rank(None, second) == '1'
    assert device_of_rank('cpu', second) == device_of_rank('cpu:2', second) == 'cpu'
    assert device_of_rank('0,1', Place()) == '0,1'
    with pytest.raises(ValueError, match='names 3 devices, and 2 ranks run'):
        device_of_rank('0,1,2', second)


def test_what_travels_arrives():
    sent = {'a': [1, 2.5, None, True, 'x'], 3: np.arange(6, dtype=np.float32).reshape(2, 3), 'none': np.zeros((0, 5))}
    got = unpack(pack(sent))
    assert got['a'] == sent['a']
    for key in (3, 'none'):
        assert got[key].dtype == sent[key].dtype and np.array_equal(got[key], sent[key])
    for wrong in (object(), np.array([object()]), {'f': print}):
        with pytest.raises(TypeError, match='cannot be sent'):
            pack(wrong)


def test_what_is_no_message_is_one_error():
    good = pack({'a': np.arange(6.0), 'b': [1, 'x']})
    for wrong in (b'', b'[]', good[:-1], good[:9], b'\0' * 8, good[:8] + b'{' * 40, good.replace(b'<f8', b'|O8')):
        with pytest.raises(ValueError):
            unpack(wrong)


@pytest.fixture
def said(monkeypatch):
    """said(ranks, now): what rank 0 says of ranks given as (stamps, got_on at, longest wait)."""

    def call(given, now):
        channel = Channel.__new__(Channel)
        messages = []
        channel._end = messages.append
        peers = []
        for number, (stamps, got_on, longest) in enumerate(given):
            peer = _Peer(None, number, 'here')
            peer.stamps, peer.got_on, peer.longest, peer.started = stamps, got_on, longest, True
            peers.append(peer)
        channel._look_for_stall(peers, now)
        return messages

    return call


def test_the_rank_that_the_others_wait_for_is_named(said):
    """Both stand still; rank 1 has said less often that it gets on, so rank 0 waits for it."""
    assert said([(10, 100.0, 1.0), (9, 99.0, 1.0)], now=125.0) == [
        'rank 1 on here gets on no more: the others have waited 26 s for it'
    ]


def test_patience_is_three_times_the_longest_wait_or_twenty_seconds(said):
    assert said([(10, 100.0, 1.0), (9, 99.0, 1.0)], now=119.0) == []
    assert said([(10, 100.0, 9.0), (9, 99.0, 9.0)], now=125.0) == []
    assert said([(10, 100.0, 9.0), (9, 99.0, 9.0)], now=128.0) != []


def test_one_that_gets_on_or_rests_is_no_reason_to_end(said):
    assert said([(10, 124.0, 1.0), (9, 50.0, 1.0)], now=125.0) == []
    assert said([(0, 50.0, 1.0), (0, 50.0, 1.0)], now=125.0) == []
