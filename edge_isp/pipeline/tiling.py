"""Whether a model's frames are done in tiles, and in which."""

from __future__ import annotations

import logging

from edge_isp.board import Board
from edge_isp.engines.tiled import Size, smallest_tile
from edge_isp.errors import ModelError
from edge_isp.models.card import ModelCard
from edge_isp.models.memory import default_tile, engine_bytes

_log = logging.getLogger(__name__)

# No shipped model needs more for a row and column of its input, so that most frames are known to fit at a glance.
_GLANCE_BYTES_PER_CELL = 4096


_WHOLE = "each of its outputs depends on the whole frame (its card has no receptive_field_radius)"


class Tiling:
    """Chooses the tiles of a model's frames.

    Args:
        card: of the model.
        tile: width and height of a tile in pixels of the mosaic, overlap included; None cuts only frames that need more
            than `budget_bytes`, into tiles of 896x896 pixels at most.
        budget_bytes: memory that the engine may take for a frame; None is half of what is available when frames of a
            size begin.

    Raises:
        ModelError: a tile is asked for and the model cannot be run in tiles, or not in one so small.
    """

    def __init__(self, card: ModelCard, *, tile: tuple[int, int] | None, budget_bytes: int | None) -> None:
        self._card, self._budget_bytes = card, budget_bytes
        self._tile: Size | None = card.input_size(*tile) if tile is not None else None
        if self._tile is not None:
            assert tile is not None
            self._check_tile(self._tile, tile)

    def choose(self, size: Size) -> Size | None:
        """Height and width of a tile in rows and columns of cells; None for the whole frame.

        Args:
            size: height and width of the model's input.
        """
        if self._tile is not None:
            return self._tile
        if self._card.task != "isp" or self._fits(size):
            return None
        tile = default_tile(self._card, *size)
        if tile is None:
            _log.warning(
                "%s needs about %d MB for frames of %dx%d pixels, more than its budget, and cannot be run in tiles: %s",
                self._card.name,
                engine_bytes(self._card, *size) // 10**6,
                self._card.cell * size[1],
                self._card.cell * size[0],
                _WHOLE,
            )
        return tile

    def _fits(self, size: Size) -> bool:
        budget = self._budget_bytes
        if budget is None:
            available = Board().available_memory_bytes()
            if available is None:
                return True
            budget = available // 2
        cells = size[0] * size[1]
        return cells * _GLANCE_BYTES_PER_CELL <= budget or engine_bytes(self._card, *size) <= budget

    def _check_tile(self, tile: Size, asked: tuple[int, int]) -> None:
        card = self._card
        if card.receptive_field_radius is None:
            reason = _WHOLE if card.task == "isp" else "its input has one size, whatever the size of the frames"
            raise ModelError(f"'{card.name}' cannot be run in tiles: {reason}")
        smallest = card.cell * smallest_tile(card.receptive_field_radius, card.input_multiple)
        if card.cell * min(tile) < smallest:
            raise ModelError(
                f"a tile for '{card.name}' must be at least {smallest}x{smallest} pixels, since tiles overlap by "
                f"{card.cell * card.receptive_field_radius} pixels on each side; found {asked[0]}x{asked[1]}"
            )
