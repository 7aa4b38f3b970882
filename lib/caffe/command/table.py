"""Tables of text for a terminal, and numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], total: Sequence[str] | None, left: int) -> str:
    """Columns two spaces apart, the first `left` of them aligned to the left; rules around the rows.

    The last line, `total`, may be None: there is none then.
    """
    lines = [header, *rows] + ([total] if total else [])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return '  '.join(aligned).rstrip()

    rule = '-' * (sum(widths) + 2 * (len(widths) - 1))
    last = [rule, line(total)] if total else []
    return '\n'.join([line(header), rule, *(line(row) for row in rows), *last])


def quantity(number: float) -> str:
    """A count in three digits: 815, 12.3 K, 4.57 M; '' for none."""
    if not number:
        return ''
    units = ['', ' K', ' M', ' G', ' T', ' P']
    while number >= 999.5 and len(units) > 1:
        number /= 1000
        units.pop(0)
    return f'{number:.0f}{units[0]}' if number >= 99.95 or not units[0] else f'{number:.3g}{units[0]}'


def mebibytes(number: int) -> str:
    """A size in MiB: 0.02, 1.50, 392."""
    mib = number / 2**20
    return f'{mib:.0f}' if mib >= 99.5 else f'{mib:.1f}' if mib >= 9.95 else f'{mib:.2f}'


def shape(dims: Sequence[int]) -> str:
    """A shape: 1x3x224x224, or 'scalar'."""
    return 'x'.join(map(str, dims)) or 'scalar'
