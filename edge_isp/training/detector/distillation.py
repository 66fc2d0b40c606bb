"""ISP distillation: the student learns to answer to RAW as the teacher answers to the picture, without a label.

After Schwartz, Bronstein, Giryes: "ISP Distillation", IEEE Open Journal of Signal Processing 4, 2023, which matched
predictions of classifiers; here are matched the features that the heads read, and the boxes, objectness and classes of
a detector. The teacher sees a well exposed picture without noise, whatever the student's exposure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_isp.training.detector.data import DetectorPairs, Pair
from edge_isp.training.networks.yolox import CLASSES, STRIDES, Decoded, Level, YoloxNano, decode, picture_planes

# Weights of the parts of the loss: YOLOX's own for boxes, objectness and classes.
_FEATURES, _BOXES, _OBJECTNESS, _CLASSES = 1.0, 5.0, 1.0, 1.0

# How much faster than weights that know something those learn that begin as random numbers.
_NEW_PACE = 10.0

# Boxes are learnt where the teacher's score is at least this: elsewhere they mean nothing.
_SURE = 0.05


@dataclass(frozen=True)
class Distillation:
    """What a student is trained for; see `trainer.Objective`.

    Attributes:
        teacher: reads the pairs' pictures.
        pairs: to learn from.
        validation: pairs by name, one batch each.
        measure: see `trainer.Objective`.
        unit: see `trainer.Objective`.
        higher_is_better: see `trainer.Objective`.
    """

    teacher: YoloxNano
    pairs: DetectorPairs
    validation: Mapping[str, Pair]
    measure: str = "loss"
    unit: str = ""
    higher_is_better: bool = False

    def batches(self, first: int, last: int) -> Iterator[Pair]:
        return self.pairs.batches(first, last)

    def loss(self, network: nn.Module, batch: Pair, *, step: int, steps: int) -> Tensor:
        del step, steps
        device = _device(network)
        mosaic = torch.from_numpy(batch.mosaic).to(device, memory_format=torch.channels_last)
        wanted, answer = _taught(self.teacher, batch, device)
        if isinstance(network, YoloxNano):
            features = network.features(mosaic)
            return _FEATURES * _feature_loss(features, wanted) + answer_loss(decode(network.answers(features)), answer)
        return answer_loss(_answer(network, mosaic), answer)

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """The loss of the answers alone: quantised networks give nothing else."""
        out = {}
        for name, batch in self.validation.items():
            picture, mosaic = (torch.from_numpy(a).to(_device(network)) for a in (batch.picture, batch.mosaic))
            wanted = decode(self.teacher.to(_device(network))(picture_planes(picture)))
            out[name] = float(answer_loss(_answer(network, mosaic), wanted))
        return out

    def pace(self, parameter: nn.Parameter) -> float:
        return pace(parameter)


@dataclass(frozen=True)
class Labels:
    """What a network is trained for with labels; see `trainer.Objective`.

    With a teacher for the same classes, a student is asked for what that sees in the clean picture as well: its
    features before the heads and its answers, which say of every cell what labels say of objects alone.

    Attributes:
        pairs: to learn from, with labels.
        validation: pairs by name, one batch each.
        class_count: how many classes the labels tell apart.
        teacher: reads the pairs' pictures; None learns from the labels alone.
        pictures: whether the network reads the pictures of the pairs, as a teacher does, and not the mosaics.
        new: parameters that begin as random numbers, and learn faster.
        measure: see `trainer.Objective`.
        unit: see `trainer.Objective`.
        higher_is_better: see `trainer.Objective`.
    """

    pairs: DetectorPairs
    validation: Mapping[str, Pair]
    class_count: int = CLASSES
    teacher: YoloxNano | None = None
    pictures: bool = False
    new: tuple[nn.Parameter, ...] = ()
    measure: str = "loss"
    unit: str = ""
    higher_is_better: bool = False

    def batches(self, first: int, last: int) -> Iterator[Pair]:
        return self.pairs.batches(first, last)

    def loss(self, network: nn.Module, batch: Pair, *, step: int, steps: int) -> Tensor:
        del step, steps
        device = _device(network)
        planes, wanted = self._planes(batch, device), self._wanted(batch, device)
        if self.teacher is None:
            return answer_loss(_answer(network, planes), wanted)
        seen, answer = _taught(self.teacher, batch, device)
        if not isinstance(network, YoloxNano):
            own = _answer(network, planes)
            return answer_loss(own, answer) + answer_loss(own, wanted)
        features = network.features(planes)
        own = decode(network.answers(features))
        return _FEATURES * _feature_loss(features, seen) + answer_loss(own, answer) + answer_loss(own, wanted)

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """How far the answers are from the labels."""
        device = _device(network)
        return {
            name: float(answer_loss(_answer(network, self._planes(batch, device)), self._wanted(batch, device)))
            for name, batch in self.validation.items()
        }

    def pace(self, parameter: nn.Parameter) -> float:
        return pace(parameter) * (_NEW_PACE if any(parameter is new for new in self.new) else 1.0)

    def _planes(self, batch: Pair, device: torch.device) -> Tensor:
        if self.pictures:
            return picture_planes(torch.from_numpy(batch.picture).to(device))
        return torch.from_numpy(batch.mosaic).to(device, memory_format=torch.channels_last)

    def _wanted(self, batch: Pair, device: torch.device) -> Decoded:
        count, size = len(batch.mosaic), 2 * batch.mosaic.shape[2]
        return labelled(torch.from_numpy(batch.objects).to(device), count, size, self.class_count)


@torch.no_grad()
def _taught(teacher: YoloxNano, batch: Pair, device: torch.device) -> tuple[Sequence[Tensor], Decoded]:
    """What a teacher sees in the pictures of a batch: the features before its heads, and its answers."""
    picture = picture_planes(torch.from_numpy(batch.picture).to(device))
    teacher = teacher.to(device)
    features = teacher.features(picture.contiguous(memory_format=torch.channels_last))
    return features, decode(teacher.answers(features))


def _answer(network: nn.Module, mosaic: Tensor) -> Decoded:
    """What a student says; a quantised one has its outputs in a row."""
    out = network(mosaic)
    return decode(out if isinstance(network, YoloxNano) else levels(out))


def _device(network: nn.Module) -> torch.device:
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def pace(parameter: nn.Parameter) -> float:
    """Weights move by like shares of their size: those of the folded batch normalisations differ a hundredfold.

    Args:
        parameter: a weight of the network.
    """
    if parameter.numel() == 1:
        return 1.0
    return 2.0 ** round(math.log2(max(1e-3, float(parameter.detach().square().mean().sqrt()))))


# Objects whose longer side is below this many strides belong to a level; all larger ones to the last.
_LARGEST_IN_STRIDES = 8
# Cells whose middle is within this many strides of an object's middle answer for it.
_RADIUS_IN_STRIDES = 1.5


def labelled(objects: Tensor, count: int, size: int, class_count: int = CLASSES) -> Decoded:
    """Labels as a network should answer: the cells in the middle of an object, of the level that suits its size.

    Args:
        objects: see `data.Pair`.
        count: of pictures.
        size: of their sides in pixels.
        class_count: how many classes there are.
    """
    boxes, objectness, classes = [], [], []
    sides = (objects[:, 4:6] - objects[:, 2:4]).amax(1)
    for number, stride in enumerate(STRIDES):
        cells = size // stride
        highest = math.inf if stride == STRIDES[-1] else _LARGEST_IN_STRIDES * stride
        lowest = 0 if number == 0 else _LARGEST_IN_STRIDES * STRIDES[number - 1]
        box = objects.new_zeros(count, cells, cells, 4)
        known, class_of = objects.new_zeros(count, cells, cells), objects.new_zeros(count, cells, cells, class_count)
        middles = (torch.arange(cells, device=objects.device) + 0.5) * stride
        suited = objects[(sides >= lowest) & (sides < highest)]
        # Large ones first: where objects overlap, the smaller one holds the cell.
        for entry in suited[(suited[:, 4:6] - suited[:, 2:4]).prod(1).argsort(descending=True)]:
            image, class_id, corners = int(entry[0]), int(entry[1]), entry[2:]
            near = [
                (middles > corners[axis])
                & (middles < corners[axis + 2])
                & ((middles - (corners[axis] + corners[axis + 2]) / 2).abs() < _RADIUS_IN_STRIDES * stride)
                for axis in (0, 1)
            ]
            inside = near[1][:, None] & near[0]
            box[image][inside] = corners
            known[image][inside] = 1
            class_of[image][inside] = 0
            class_of[image, ..., class_id][inside] = 1
        boxes.append(box.flatten(1, 2))
        objectness.append(known.flatten(1))
        classes.append(class_of.flatten(1, 2))
    return Decoded(torch.cat(boxes, 1), torch.cat(objectness, 1), torch.cat(classes, 1))


def levels(outputs: Sequence[Tensor]) -> list[Level]:
    """The nine outputs of an exported graph, by level.

    Args:
        outputs: box, objectness and classes of each level.
    """
    return [(outputs[i], outputs[i + 1], outputs[i + 2]) for i in range(0, len(outputs), 3)]


def answer_loss(student: Decoded, teacher: Decoded) -> Tensor:
    """How far answers are from the teacher's, per object that it sees; 0 where they are equal.

    Args:
        student: answers.
        teacher: what they should be.
    """
    objects = teacher.objectness.sum().clamp_min(1)
    objectness = _divergence(student.objectness, teacher.objectness).sum() / objects
    classes = (_divergence(student.classes, teacher.classes).sum(2) * teacher.objectness).sum() / objects
    score = teacher.objectness * teacher.classes.amax(2)
    score = torch.where(score >= _SURE, score, 0)
    boxes = ((1 - box_overlap(student.boxes, teacher.boxes)) * score).sum() / score.sum().clamp_min(1)
    return _OBJECTNESS * objectness + _CLASSES * classes + _BOXES * boxes


def box_overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4): x0, y0, x1, y1.

    Args:
        a: boxes.
        b: boxes, of the same shape.
    """
    size = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp_min(0)
    both = size.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - both
    return both / union.clamp_min(1e-6)


def _feature_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Mean squared difference of the heads' inputs, each channel in units of the teacher's standard deviation."""
    losses = []
    for own, wanted in zip(student, teacher, strict=True):
        deviation = wanted.std((0, 2, 3), keepdim=True).clamp_min(1e-3)
        losses.append(((own - wanted) / deviation).square().mean())
    return torch.stack(losses).sum()


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence of probabilities of two outcomes."""
    smallest = 1e-7
    student, teacher = student.clamp(smallest, 1 - smallest), teacher.clamp(smallest, 1 - smallest)
    own = F.binary_cross_entropy(student, teacher, reduction="none")
    least = F.binary_cross_entropy(teacher, teacher, reduction="none")
    return own - least
