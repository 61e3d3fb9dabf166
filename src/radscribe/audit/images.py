"""Identical and nearly identical images in different splits, found by the hashes of their pixels.

The perceptual hash is pHash: the lowest frequencies of a small picture, each compared with their median. It
changes little when a picture is compressed, resized or brightened. Its bits are those of the library
ImageHash (`phash` with `hash_size=16`), which would add PyWavelets to what RadScribe needs; a test compares
the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.fft import dctn

from radscribe.audit.leaks import Item, Place
from radscribe.progress import Progress
from radscribe.studies.study import Study

#: Frequencies along each side that the hash keeps, and side in pixels of the picture that it is made of.
SIDE, PICTURE = 16, 64
#: Largest number of the 256 bits in which the hashes of nearly identical images differ.
NEAR = 24
#: Number of hashes that are compared at once: a block of comparisons takes some 40 MB.
_BLOCK = 5_000_000

#: Items of a later and an earlier split, with the number of bits in which their hashes differ.
NearPairs = dict[tuple[Place, Place], list[tuple[Item, Item, int]]]


def perceptual_hash(pixels: np.ndarray) -> np.ndarray:
    """The hash of a picture, uint64 [4].

    Args:
        pixels: Grey pixels, uint8 [height, width]. A picture of one grey has the hash 0.
    """
    small = np.asarray(Image.fromarray(pixels).resize((PICTURE, PICTURE), Image.Resampling.LANCZOS))
    if small.min() == small.max():
        return np.zeros(4, np.uint64)
    low = dctn(small.astype(np.float64))[:SIDE, :SIDE]
    return np.packbits(low > np.median(low)).view(np.uint64)


@dataclass(frozen=True, slots=True)
class SplitImages:
    """The images of one split.

    Attributes:
        items: Each image; its key is a hash of its pixels and their shape.
        hashes: Perceptual hash of each image, uint64 [images, 4].
    """

    items: Sequence[Item]
    hashes: np.ndarray


def split_images(place: Place, studies: Iterable[Study], progress: Progress) -> SplitImages:
    """Read every image of a split, one after the other.

    Args:
        place: The split.
        studies: Its studies, of a prepared store.
        progress: Counts the images.
    """
    items, hashes = [], []
    for study in studies:
        for view in study.views:
            assert callable(view.source)
            pixels = view.source().pixels
            digest = hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).digest()
            items.append(Item(place, digest, study.id, view.name))
            hashes.append(perceptual_hash(pixels))
            progress.update()
    return SplitImages(items, np.array(hashes, np.uint64).reshape(-1, 4))


def near_images(
    images: Mapping[Place, SplitImages],
) -> dict[tuple[Place, Place], list[tuple[Item, Item, int]]]:
    """The images of later splits that an earlier split has nearly, each with the nearest there and its
    distance.

    Images with an identical counterpart in the earlier split are among them, with the distance 0.
    """
    found: NearPairs = {}
    for later, own in images.items():
        for earlier, others in images.items():
            if not (later.follows(earlier) and own.items and others.items):
                continue
            nearest, distances = _nearest(own.hashes, others.hashes)
            for place in np.flatnonzero(distances <= NEAR).tolist():
                pair = own.items[place], others.items[nearest[place]], int(distances[place])
                found.setdefault((later, earlier), []).append(pair)
    return found


class SharedIds(NamedTuple):
    """Studies that have one id in two stores.

    Attributes:
        stores: Folders of the two stores, as they were given.
        studies: Number of these studies.
        same_images: Number of those with an image that is nearly identical in both stores.
    """

    stores: tuple[str, str]
    studies: int
    same_images: int


def shared_ids(images: Mapping[Place, SplitImages]) -> list[SharedIds]:
    """For each two stores the studies that have one id in both, if there are any.

    Where these have different images, the stores have different sources, and an id means nothing.
    """
    hashes: dict[str, dict[str, list[np.ndarray]]] = {}
    for place, found in images.items():
        of_store = hashes.setdefault(place.store, {})
        for item, bits in zip(found.items, found.hashes, strict=True):
            of_store.setdefault(item.study, []).append(bits)
    shared = []
    for first, second in combinations(hashes, 2):
        both = hashes[first].keys() & hashes[second].keys()
        same = sum(_any_near(hashes[first][study], hashes[second][study]) for study in both)
        if both:
            shared.append(SharedIds((first, second), len(both), same))
    return shared


def _any_near(hashes: list[np.ndarray], others: list[np.ndarray]) -> bool:
    return bool(_nearest(np.array(hashes), np.array(others))[1].min() <= NEAR)


def _nearest(hashes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each hash the place of the nearest other hash, and the number of bits in which the two differ."""
    nearest = np.empty(len(hashes), np.int64)
    distances = np.empty(len(hashes), np.uint16)
    rows = max(1, _BLOCK // len(others))
    for begin in range(0, len(hashes), rows):
        block = slice(begin, begin + rows)
        differing = np.zeros((len(hashes[block]), len(others)), np.uint16)
        for word in range(hashes.shape[1]):
            differing += np.bitwise_count(hashes[block, None, word] ^ others[None, :, word])
        nearest[block] = differing.argmin(axis=1)
        distances[block] = differing.min(axis=1)
    return nearest, distances
