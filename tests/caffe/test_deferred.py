"""What a blob may hold before it is read: rows that repeat, a product of two small matrices, a copy to come."""

import pytest
import torch

from caffe.kernels import matrix
from caffe.kernels.deferred import CopyOf, Product, Rows

DISTINCT = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def visit_blocks(visit):
    """DISTINCT in two blocks, both in the same memory."""
    block = DISTINCT[:, :2].clone()
    visit(slice(0, 2), block)
    visit(slice(2, 3), block[:, :1].copy_(DISTINCT[:, 2:]))


def some_rows():
    return Rows(visit_blocks, (2, 3), torch.tensor([1, 0, 1, 1]))


def test_rows_that_repeat_are_laid_out_by_their_index():
    assert some_rows().laid_out().tolist() == [[4, 5, 6], [1, 2, 3], [4, 5, 6], [4, 5, 6]]


@pytest.mark.parametrize('route', matrix.routes.names)
@pytest.mark.parametrize('transposed', [False, True])
def test_rows_that_repeat_are_multiplied_block_by_block(route, transposed):
    weight = torch.tensor([[1.0, 10.0], [0.0, 1.0], [2.0, 0.0]])
    weight = weight.t().contiguous().t() if transposed else weight
    out = torch.empty(4, 2)
    with matrix.routes.force(route):
        some_rows().times(weight, out)
    assert out.tolist() == [[16, 45], [7, 12], [16, 45], [16, 45]]  # 4 + 2 * 6, 10 * 4 + 5; 1 + 2 * 3, 10 + 2


def test_a_product_is_laid_out_as_the_sum_over_its_pairs():
    product = Product(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0, 1.0]]))
    more = product.plus(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 5.0, 0.0]]))
    assert product.laid_out().tolist() == [[1, 0, 1], [2, 0, 2]]
    assert more.laid_out().tolist() == [[1, 5, 1], [2, 5, 2]]


def test_a_product_by_portions_is_the_product_beside_the_rows_of_others(monkeypatch):
    monkeypatch.setattr('caffe.kernels.deferred._PORTION', 6)  # two rows of three numbers
    a, b = torch.arange(10.0).view(2, 5), torch.arange(6.0).view(2, 3)
    other = torch.arange(15.0).view(5, 3)
    portions = [(part.clone(), rows) for part, rows in Product(a, b).row_portions([other])]
    assert [len(part) for part, _ in portions] == [2, 2, 1]
    assert torch.equal(torch.cat([part for part, _ in portions]), a.t() @ b)
    assert torch.equal(torch.cat([rows for _, rows in portions]), other)


@pytest.mark.parametrize(
    ('rows', 'shape', 'small'),
    [
        (64, (4096, 4096), True),  # 2 * 64 * 4096 numbers instead of 4096 * 4096
        (1024, (4096, 4096), False),  # half as many: not worth it
        (1, (512, 1024), False),  # a matrix of 2 MB
    ],
)
def test_factors_are_small_when_they_are_a_quarter_of_a_large_product(rows, shape, small):
    assert Product(torch.empty(rows, shape[0]), torch.empty(rows, shape[1])).is_small() == small


def test_a_copy_is_of_what_there_is_when_it_is_asked_for():
    source = torch.zeros(2)
    copy = CopyOf(lambda: source)
    source += 3
    taken = copy.laid_out()
    source += 1
    assert taken.tolist() == [3, 3]
