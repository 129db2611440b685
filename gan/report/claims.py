"""What the PPSA-GAN paper states, what is wrong with it where something is, and where the like is measured here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One statement of the paper."""

    topic: str
    paper: str
    """As it stands there."""
    remark: str
    """Why it cannot be right, or what it says and does not say; empty where nothing is to be said."""
    figures: tuple[str, ...] = ()
    """Names of the measures that answer it; a trailing * takes all that begin so."""


CLAIMS: Final = (
    Claim(
        topic="Inception score",
        paper="13.99",
        remark="Other models of CelebA score 1.7 to 3.9, and CIFAR-10's own images 11.24: a set without ImageNet's classes "
        "cannot reach it. Read ours beside the score of the real faces only.",
        figures=("inception_score", "is_*"),
    ),
    Claim(
        topic="Fréchet distance",
        paper="35.50, called the state of the art",
        remark="SNGAN has 5.71 and diffusion GANs 1.69 on CelebA at 64x64; neither number of images nor resizer nor weights are "
        "given, and the formula lacks a square. Features of another network do not compare with it.",
        figures=("fid", "fd_*"),
    ),
    Claim(
        topic="Kernel distance, precision, recall, density, coverage",
        paper="none",
        remark="Precision says how many generated faces look real, recall how many real faces have a counterpart.",
        figures=("kid", "kd_*", "precision_*", "recall_*", "density_*", "coverage_*"),
    ),
    Claim(
        topic="The discriminator's accuracy, precision, recall and F1 (figure 8, its table)",
        paper="accuracy .947, precision .948, recall .938, F1 .943; matrix 99,120 / 1,240 / 101,359 / 880",
        remark="The matrix gives .9895, .9879, .9914 and .9897, not what is printed, and adds up to 202,599 images as if all were "
        "real. A discriminator that tells fakes so well means that the generator lost. Ours all come from one matrix.",
        figures=("discriminator",),
    ),
    Claim(
        topic="UACI of generated and real images",
        paper=".345, “high similarity”",
        remark="Independent noise has a third (33.5 in percent, as here). An unconditional generator has no corresponding real image; three kinds of random "
        "pairs show what the figure can say.",
        figures=("uaci", "effect_uaci"),
    ),
    Claim(
        topic="Entropy of the images",
        paper="7.28 ± .17 against 7.31 ± .19, p > .05",
        remark="With 202,599 images a side that is t = 53: the difference is beyond doubt. Whether it is large is what an "
        "effect size says.",
        figures=("pixel_entropy", "effect_entropy"),
    ),
    Claim(
        topic="Moments of the histogram",
        paper="close",
        remark="Necessary and not sufficient: the mean face passes. Kurtosis here is excess kurtosis.",
        figures=("effect_mean", "effect_deviation", "effect_skewness", "effect_kurtosis"),
    ),
    Claim(
        topic="Reconstruction error, time to encode and decode",
        paper="MSE .0037; 11.6 and 18.2 ms",
        remark="There is no encoder and there are no pairs: neither can be measured. Coding an image as PNG and committing to it "
        "take time, and stand here under their own names.",
        figures=("codec",),
    ),
    Claim(
        topic="Training",
        paper="8 h 27 min, 200 images a second on an RTX 3090",
        remark="At .77 GFLOP an image that is 0.4% of the card: the loader waited.",
        figures=("training",),
    ),
    Claim(
        topic="Generation",
        paper="24.8 ms an image",
        remark="One image at a time; in a larger call an image costs a fraction of that.",
        figures=("speed",),
    ),
    Claim(
        topic="Clustering into 125",
        paper="32 min for 202,599 images",
        remark="The paper's algorithm clusters the real images; here the generated ones are clustered. Clusters group looks and "
        "hide nobody.",
        figures=("clustering",),
    ),
    Claim(
        topic="Mining",
        paper="1 h 14 min at four zeros",
        remark="For all images that would be 3 million hashes a second, which the printed code does not reach; and the printed "
        "string leaves the previous hash out, so that its blocks form no chain.",
        figures=("mining",),
    ),
    Claim(
        topic="“Privacy-preserving”, “anonymised”",
        paper="claimed",
        remark="No noise, no bound, no filter and no test is described. What is known of this run stands under Privacy.",
        figures=("privacy",),
    ),
    Claim(
        topic="Seven expressions",
        paper="described, no result",
        remark="CelebA has no labels of expressions, so an accuracy on generated faces cannot exist.",
        figures=("expression",),
    ),
)
