"""scikit-learn's embedded digits in MNIST's form."""

import numpy as np
from PIL import Image

from .decoded import DecodedDataset, LabelledImages


def read_digits() -> DecodedDataset:
    """scikit-learn's 1,797 digits, 8 × 8 with values 0 to 16, as uint8 [N, 1, 28, 28].

    Each digit is enlarged to MNIST's 20 × 20 box in the middle of the image. The last third is the
    test split, unshuffled: the file is ordered by writer, so few writers are in both splits.
    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    from sklearn.datasets import load_digits  # slow to import, and only needed here

    digits = load_digits()
    small = np.round(digits.images * (255 / 16)).astype(np.uint8)
    images = np.zeros((len(small), 1, 28, 28), np.uint8)
    for image, source in zip(images, small, strict=True):
        enlarged = Image.fromarray(source).resize((20, 20), Image.Resampling.BICUBIC)
        image[0, 4:24, 4:24] = np.asarray(enlarged)
    labels = digits.target.astype(np.int64)
    test = len(images) - len(images) // 3
    return DecodedDataset(
        name="digits",
        classes=list("0123456789"),
        picture="glyph",
        train=LabelledImages(images[:test], labels[:test]),
        test=LabelledImages(images[test:], labels[test:]),
    )
