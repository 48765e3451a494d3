"""Distances between thumbnails, which small shifts of one against the other do not change.

N, Q = thumbnails;  P = pairs of them;  T = side of a thumbnail
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from stages.lib.export.thumbnails import SIDE

_STEPS = 3  # in search of the best shift
_MOST = 0.75  # cells of a shift along each axis: 3 of 64 pixels


def smoothed(thumbnails: Float[np.ndarray, "N T T"]) -> Float[np.ndarray, "N T T"]:
    """Weighs each cell twice and its neighbours once, along both axes: then values between cells can be read off."""
    for axis in (1, 2):
        ends = np.swapaxes(thumbnails, 1, axis)
        ends = np.concatenate([ends[:, :1], ends, ends[:, -1:]], axis=1)
        thumbnails = np.swapaxes((ends[:, :-2] + 2 * ends[:, 1:-1] + ends[:, 2:]) / 4, 1, axis)
    return thumbnails


def unit(thumbnails: Float[np.ndarray, "N T T"]) -> Float[np.ndarray, "N T T"]:
    """Divided by their length, so that no factor on all values counts."""
    return thumbnails / np.maximum(np.linalg.norm(thumbnails, axis=(1, 2), keepdims=True), 1e-9)


def coarse(thumbnails: Float[np.ndarray, "*n T T"]) -> Float[np.ndarray, "*n cells"]:
    """With a quarter of the cells, which is enough to find candidates; distances stay about the same."""
    # Added by hand: NumPy's mean over axes of two takes five times as long.
    rows = thumbnails[..., ::2, :].astype(np.float32) + thumbnails[..., 1::2, :]
    boxes = (rows[..., ::2] + rows[..., 1::2]) / 2
    return boxes.reshape(*thumbnails.shape[:-2], (SIDE // 2) ** 2)


def with_squares(
    coarse: Float[np.ndarray, "N cells"], more: Float[np.ndarray, "N d"]
) -> Float[np.ndarray, "N columns"]:
    """Thumbnail, further values, 1 and the sum of all squares, so that one product gives squared distances."""
    full = np.hstack([coarse, more])
    return np.hstack([full, np.ones_like(full[:, :1]), np.square(full).sum(axis=1, keepdims=True)])


def tangent_squares(
    thumbnails: Float[np.ndarray, "Q T T"],
    more: Float[np.ndarray, "Q d"],
    others: Float[np.ndarray, "N columns"],
) -> Float[np.ndarray, "Q N"]:
    """Squared distances between all groups and all others, without what small shifts of the group would explain.

    Args:
        more: values whose differences count, too.
        others: see with_squares.
    """
    small = coarse(thumbnails)
    own = with_squares(small, more)
    directions = np.linalg.qr(np.swapaxes(coarse(_slopes(thumbnails.astype(np.float32))), 1, 2))[0]
    factors = np.zeros((3, *own.shape), dtype=np.float32)
    factors[0, :, :-2], factors[0, :, -2], factors[0, :, -1] = -2 * own[:, :-2], own[:, -1], 1
    # Orthonormal directions, one for each axis of the shift: (Q, cells, 2).
    factors[1:, :, : small.shape[1]] = np.moveaxis(directions, 2, 0)
    factors[1:, :, -2] = -np.einsum("qci,qc->iq", directions, small)
    squares, *along = factors @ others.T
    for part in along:
        squares -= np.square(part, out=part)
    return squares


def shifted_distance(
    first: Float[np.ndarray, "P T T"], second: Float[np.ndarray, "P T T"]
) -> Float[np.ndarray, "P"]:
    """The distance of each pair after the shift that brings it closest, by Gauss and Newton's method."""
    first, second = first.astype(np.float32), second.astype(np.float32)
    shift = np.zeros((len(first), 2), dtype=np.float32)  # in cells, rows and columns
    best = np.full(len(first), np.inf)
    for step in range(_STEPS + 1):
        # Both move by half: then reading values between cells blurs both alike.
        left, right = _moved(first, -shift / 2), _moved(second, shift / 2)
        difference = (right - left).reshape(len(first), SIDE**2)
        best = np.minimum(best, np.linalg.norm(difference, axis=1))
        if step == _STEPS:
            break
        slopes = _slopes((left + right) / 2).reshape(len(first), 2, SIDE**2)
        normal = slopes @ np.swapaxes(slopes, 1, 2) + 1e-6 * np.eye(2, dtype=np.float32)
        shift = np.clip(
            shift - np.linalg.solve(normal, slopes @ difference[:, :, None])[:, :, 0], -_MOST, _MOST
        )
    return best


def _moved(
    thumbnails: Float[np.ndarray, "P T T"], shift: Float[np.ndarray, "P 2"]
) -> Float[np.ndarray, "P T T"]:
    """Values at places that are this far away, linear between cells; beyond the border, the border's. Length is 1."""
    places = np.clip(np.arange(SIDE) + shift[:, :, None], 0, SIDE - 1)  # (P, 2, T)
    low = np.minimum(places.astype(int), SIDE - 2)
    weight = (places - low).astype(np.float32)
    pairs = np.arange(len(thumbnails))[:, None]
    rows, down = low[:, 0], weight[:, 0, :, None]
    mixed = thumbnails[pairs, rows] * (1 - down) + thumbnails[pairs, rows + 1] * down
    mixed = np.swapaxes(mixed, 1, 2)
    columns, right = low[:, 1], weight[:, 1, :, None]
    mixed = mixed[pairs, columns] * (1 - right) + mixed[pairs, columns + 1] * right
    return unit(np.swapaxes(mixed, 1, 2))


def _slopes(thumbnails: Float[np.ndarray, "P T T"]) -> Float[np.ndarray, "P 2 T T"]:
    """The change from row to row and from column to column."""
    down, right = np.gradient(thumbnails, axis=(1, 2))
    return np.stack([down, right], axis=1)
