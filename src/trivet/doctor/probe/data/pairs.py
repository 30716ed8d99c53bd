"""Watches pictures and their target maps: does a picture belong to its own map, as it stands?"""

import weakref
from typing import Any

import torch
import torch.nn.functional as F

from trivet.doctor.probe.data.digest import Allowance, first_tensor, sample_digests
from trivet.doctor.probe.session import Session
from trivet.doctor.source import user_place
from trivet.doctor.trace_data import PairTrace

SIDE = 16
MOST_PAIRS = 256
CLEARLY = 0.15
"""Difference of squared correlations that counts."""


class PairWatch:
    """Keeps small versions of the first pictures and maps of training."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.allowance = Allowance(session)
        self._picture: weakref.ref[torch.Tensor] | None = None
        self._pictures: list[torch.Tensor] = []
        self._maps: list[torch.Tensor] = []
        self._known: set[int] = set()
        self._place: Any = None

    def on_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember, weakly, the pictures of a training call."""
        if len(self._maps) >= MOST_PAIRS or not torch.is_grad_enabled():
            return
        batch = first_tensor(args, kwargs)
        fits = batch is not None and batch.ndim == 4 and batch.is_floating_point() and not batch.requires_grad
        self._picture = weakref.ref(batch) if fits and batch is not None else None

    def on_loss(self, output: torch.Tensor, target: torch.Tensor) -> None:
        """Keep the pictures with the maps of a loss."""
        picture = self._picture() if self._picture is not None else None
        if (
            picture is None
            or len(self._maps) >= MOST_PAIRS
            or not output.requires_grad
            or not self.allowance.left
        ):
            return
        maps = target.detach()
        maps = maps[:, 0] if maps.ndim == 4 and maps.shape[1] == 1 else maps
        if maps.ndim != 3 or len(maps) != len(picture) or min(maps.shape[1:]) < 8 or picture.shape[1] > 8:
            return
        if picture.shape[2] * maps.shape[2] != picture.shape[3] * maps.shape[1] or maps.is_complex():
            return
        if maps.is_floating_point() and len(maps.flatten()[:4096].unique()) > 32:
            return
        with self.allowance.measured(), torch.no_grad():
            self._keep(picture.detach(), maps)

    def _keep(self, pictures: torch.Tensor, maps: torch.Tensor) -> None:
        self._place = self._place or user_place()
        digests = sample_digests(pictures)
        background = maps.flatten().float().mode().values if maps.numel() < 1 << 16 else maps.min()
        marked = (maps != background).float()[:, None]
        size = (min(SIDE, maps.shape[1]), min(SIDE, maps.shape[2]))
        small = F.adaptive_avg_pool2d(pictures.float(), size).cpu()
        truth = F.adaptive_avg_pool2d(marked, size)[:, 0].cpu()
        for i, digest in enumerate(digests.tolist() if digests is not None else []):
            if digest not in self._known and len(self._maps) < MOST_PAIRS and float(truth[i].std()) > 0.01:
                if self._maps and self._maps[0].shape != truth[i].shape:
                    return
                self._known.add(digest)
                self._pictures.append(small[i])
                self._maps.append(truth[i])

    def trace(self) -> PairTrace:
        """Compare the pictures with their maps, with turned maps, and with the maps of others."""
        if len(self._maps) < 16:
            return PairTrace(self._place, len(self._maps))
        pictures, maps = torch.stack(self._pictures), torch.stack(self._maps)
        bases = _bases(pictures)
        explained = _explained(bases, maps)
        own = explained.diagonal()
        versions = [_explained(bases, version) for version in _turns(maps)]
        best, which = torch.stack([version.diagonal() for version in versions]).max(0)
        ranks = torch.stack([_rank(version) for version in versions])[which, torch.arange(len(which))]
        differ, better = (best - own).abs() > CLEARLY, best - own > CLEARLY
        others = explained.clone().fill_diagonal_(0)
        return PairTrace(
            place=self._place,
            pairs=len(own),
            own=float(own.median()),
            best_turn=float(best.median()),
            turned=float(better.sum() / differ.sum().clamp_min(1)),
            turned_fit=float(best[better].median()) if bool(better.any()) else 0.0,
            turned_rank=float(ranks[better].mean()) if bool(better.any()) else 1.0,
            decisive=int(differ.sum()),
            rank=float(_rank(explained).mean()),
            best_other=float(others.max(1).values.median()),
        )


def _bases(pictures: torch.Tensor) -> torch.Tensor:
    """Orthonormal bases [n, pixels, channels] of the centred channels of each picture."""
    flat = pictures.flatten(2).transpose(1, 2)
    flat = flat - flat.mean(1, keepdim=True)
    flat = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-6)
    basis, scale, _ = torch.linalg.svd(flat + 0.0, full_matrices=False)
    return basis * (scale > 1e-3)[:, None]


def _unit(maps: torch.Tensor) -> torch.Tensor:
    flat = maps.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    return flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-6)


def _explained(bases: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Share of the variance of each map (columns) that the channels of each picture (rows) explain."""
    return torch.einsum("npc,mp->nmc", bases, _unit(maps)).square().sum(2)


def _rank(explained: torch.Tensor) -> torch.Tensor:
    """Share of the maps of other pictures that each picture explains better than its own; 0.5 is chance."""
    return (explained > explained.diagonal()[:, None]).float().sum(1) / max(1, len(explained) - 1)


def _turns(maps: torch.Tensor) -> list[torch.Tensor]:
    found = [maps.flip(1), maps.flip(2), maps.flip(1, 2)]
    if maps.shape[1] == maps.shape[2]:
        found += [
            maps.transpose(1, 2),
            maps.rot90(1, (1, 2)),
            maps.rot90(3, (1, 2)),
            maps.rot90(1, (1, 2)).flip(2),
        ]
    return found
