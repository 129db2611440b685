"""What others published about models of small faces: quoted with their source, never measured here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One line of somebody's table."""

    model: str
    data: str
    fid: str
    """Fréchet Inception distance."""
    score: str
    """Inception score; empty where none is given."""
    source: str


PUBLISHED: Final = (
    Published(model="PPSA-GAN", data="CelebA 32", fid="35.50", score="13.99", source="the paper"),
    Published(model="StyleGAN", data="as the paper has it", fid="44.11", score="", source="the paper"),
    Published(model="ProGAN", data="as the paper has it", fid="45.42", score="", source="the paper"),
    Published(
        model="SNGAN", data="CelebA 64", fid="5.71 ± .02", score="2.68", source="kwotsin/mimicry, README"
    ),
    Published(model="SSGAN", data="CelebA 64", fid="6.03", score="2.67", source="kwotsin/mimicry, README"),
    Published(
        model="InfoMax-GAN", data="CelebA 64", fid="5.71", score="2.68", source="kwotsin/mimicry, README"
    ),
    Published(
        model="Diffusion-StyleGAN2",
        data="CelebA 64",
        fid="1.69",
        score="",
        source="Zhendong-Wang/Diffusion-GAN, README",
    ),
    Published(
        model="Soft Truncation DDPM++", data="CelebA 64", fid="1.90", score="", source="sotaverified.org"
    ),
    Published(model="R3GAN", data="FFHQ 64", fid="1.95", score="", source="brownvc/R3GAN"),
    Published(
        model="DP-GAN, ε = 10",
        data="CelebA 32",
        fid="31.7",
        score="2.28",
        source="2019ChenGong/DPImageBench, README",
    ),
    Published(
        model="DPDM, ε = 10",
        data="CelebA 32",
        fid="28.8",
        score="",
        source="2019ChenGong/DPImageBench, README",
    ),
    Published(
        model="DP-FETA, ε = 10",
        data="CelebA 32",
        fid="24.8",
        score="",
        source="2019ChenGong/DPImageBench, README",
    ),
    Published(
        model="CIFAR-10's own training images",
        data="CIFAR-10",
        fid="",
        score="11.24",
        source="toshas/torch-fidelity, README",
    ),
)
"""Beside the paper's own: three models of the same faces are better by a factor of six, and three *private* ones are better too."""
