"""Divides descriptors by their Euclidean norms (appendix B)."""

import numpy as np


def l2_normalised(rows: np.ndarray) -> np.ndarray:
    """Divide every row by its Euclidean norm; a row of zeros stays.

    The norm is computed in float64.

    Args:
        rows: (n, d), any float type, finite.

    Returns:
        (n, d) float32.
    """
    wide = rows.astype(np.float64)
    norms = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    norms[norms == 0] = 1
    normalised: np.ndarray = (wide / norms[:, None]).astype(np.float32)
    return normalised
