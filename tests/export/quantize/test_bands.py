"""Rows of a convolution, against the whole convolution of PyTorch."""

import pytest
import torch
from torch.nn.functional import conv2d

from export.quantize.bands import ROWS, all_rows, chosen, held, inputs_of, some_rows


@pytest.mark.parametrize("height", [1, 3, 3 * ROWS, 3 * ROWS + 1, 29, 224])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (1, 0), (5, 2)])
def test_bands_are_rows_of_the_whole_convolution(height, kernel, padding):
    torch.manual_seed(0)
    images = torch.randn(2, 3, height, 7)
    weight, bias = torch.randn(4, 3, kernel, kernel), torch.randn(4)
    expected = conv2d(images, weight, bias, padding=padding)
    bands = some_rows(expected.shape[2])
    found = [
        conv2d(inputs_of(held(images), band, kernel, padding), weight, bias, padding=(0, padding))
        for band in bands
    ]
    torch.testing.assert_close(torch.cat(found, 2), chosen(expected, bands))
    rows = [row for band in bands for row in range(height)[band]]
    assert len(rows) == len(set(rows)) == min(height, 3 * ROWS)
    assert {0, height - 1} <= set(rows)
    torch.testing.assert_close(chosen(expected, bands), expected[:, :, rows])


def test_all_rows_are_the_output_itself():
    values = torch.randn(1, 2, 50, 3)
    assert chosen(values, all_rows(50)) is values
